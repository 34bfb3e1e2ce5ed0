# A machine check on a CPU that runs a program, on one that enters the kernel and has GS and stack of the program still,
# on one that idles, and on all at once: the kernel panics, reports once, and tells what the CPU was at and what its
# banks hold. QEMU's monitor raises it while the machine stands still, so that it is known what it interrupts.
. "$(dirname "$0")/common.bash" "$@"

monitor() { type_in "$1\n" && wait_for '(qemu) '; }

# machine_check CPU PATTERN MCE OPTION...: has the monitor execute MCE when the registers that it shows for CPU match
# PATTERN; leaves these, the log, what ./exo run printed, and its status.
machine_check() {
    local cpu=$1 wanted=$2 mce=$3 tries=0
    shift 3
    at_console "$@"
    wait_for '# ' && type_in 'taskset -c 1 /test/provoke enter &\n' && wait_for entering &&
        type_in '\001c' && wait_for '(qemu) ' && monitor "cpu $cpu"
    while monitor stop && monitor 'info registers' && [[ $before != *$wanted* ]] && ((tries++ < 1000)); do
        monitor cont
    done
    registers=$before
    [[ $registers == *$wanted* ]] || fail "registers of CPU $cpu never match '$wanted', for example: $registers"
    monitor "$mce" && type_in 'cont\n'
    out=$(cat <&5)
    wait "$machine"
    status=$?
    log=$(tr -d '\r\0' <"$work/log")
}
# numbers TEXT: the registers in it that have 64 bits, and their names begin with R, one a line.
numbers() { grep -oiE '\br[a-z0-9]{1,2} *[= ][0-9a-f]{16}' <<<"$1" | tr 'A-Z=' 'a-z ' | tr -s ' ' | sort; }
# reported WHAT CPU OTHERS
reported() {
    expect "status after a machine check $1" "$status" 125
    expect_match "message after a machine check $1" "$out" 'exo: the kernel panicked'
    expect "panics after a machine check $1" "$(grep -o 'panic.*' <<<"$log")" \
        "panics, $3 others have stopped"$'\n'"panic: machine check (0000000000000012)"
    expect_match "CPU of a machine check $1" "$log" "exo: CPU $2 of $(($3 + 1)) panics"
}
# interrupted WHAT: the report has the registers that the monitor showed.
interrupted() { expect "registers of a machine check $1" "$(numbers "${log#*  registers}")" "$(numbers "$registers")"; }

machine_check 1 CPL=3 'mce 1 2 0xbe00000000000135 5 0x123456789 0x8c' --smp 2
reported "in a program" 1 1
interrupted "in a program"
expect_match "user mode" "$log" 'cs  0000000000000033'
expect "an error with its address" "$(grep 'machine check, ' <<<"$log")" \
    "exo: CPU 1 is in a machine check, status 0000000000000005, bank 2 be00000000000135, address 0000000123456789, misc \
000000000000008c"

machine_check 1 'CPL=0*GS =0000 0000' 'mce 1 0 0xb200000000000000 5 0 0' --smp 2
reported "on the way into the kernel" 1 1
interrupted "on the way into the kernel"
expect_match "the kernel" "$log" 'cs  0000000000000010'

machine_check 0 HLT=1 'mce 0 3 0xb200000000000000 4 1 1' --smp 2
reported "on a CPU that idles" 0 1
interrupted "on a CPU that idles"
expect_match "the kernel" "$log" 'cs  0000000000000010'
expect_match "calls" "$log" $'  calls\n[^\n]*exo::sched::scheduler::run_until'
expect "an error without address" "$(grep 'machine check, ' <<<"$log")" \
    "exo: CPU 0 is in a machine check, status 0000000000000004, bank 3 b200000000000000"

# CPUs of this model are all told of the first one's.
machine_check 1 CPL=3 'mce -b 1 2 0xb200000000000000 5 0 0' --smp 4 --cpu max,model=60
reported "on all CPUs" "[0-3]" 3
expect "errors of all CPUs" "$(grep -o 'CPU . is.*, bank .*' <<<"$log")" \
    "CPU 0 is in a machine check, status 0000000000000005, bank 1 a000000000000000
CPU 1 is in a machine check, status 0000000000000005, bank 2 b200000000000000
CPU 2 is in a machine check, status 0000000000000005, bank 1 a000000000000000
CPU 3 is in a machine check, status 0000000000000005, bank 1 a000000000000000"
finish
