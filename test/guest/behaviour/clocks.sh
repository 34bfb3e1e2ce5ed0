# Time is read from what the machine has, never goes backward between CPUs, and is not faster than the host's.
. "$(dirname "$0")/common.bash" "$@"

# clock NAME SECONDS OPTION...: the CPUs tell the time in turn, for so long.
clock() {
    local name=$1 seconds=$2 before=0 now times began=${EPOCHREALTIME/./}
    shift 2
    mapfile -t times < <("$exo" run --log "$work/log" --timeout 120 "$@" --exec "
n=\$(nproc); end=\$((\$(cut -d. -f1 /proc/uptime) + $seconds)); i=0
while [ \$(cut -d. -f1 /proc/uptime) -lt \$end ]; do taskset -c \$((i % n)) cut -d' ' -f1 /proc/uptime; i=\$((i + 1)); done
cut -d' ' -f1 /proc/uptime; sleep 1; cut -d' ' -f1 /proc/uptime" | tr -d .)
    local took=$(((${EPOCHREALTIME/./} - began) / 10000))
    grep -qa "exo: time is read from the $name" "$work/log" || fail "with '$*' the log does not name the $name"
    ((${#times[@]} > 2)) || fail "with '$*' only ${#times[@]} lines"
    for now in "${times[@]}"; do
        ((10#$now >= before)) || fail "with '$*' $now comes after $before"
        before=$((10#$now))
    done
    ((before <= took)) || fail "with '$*' $before hundredths of a second passed within $took"
    ((before - 10#${times[-2]} >= 100)) || fail "with '$*' a second lasted from ${times[-2]} to $before"
}
clock 'time-stamp counters' 2 --smp 2
clock 'time-stamp counters' 1 --no-hpet
clock HPET 2 --smp 2 --cpu max,-hypervisor
clock HPET 1 --uefi --cpu max,-hypervisor
clock 'PM timer' 6 --smp 2 --cpu max,-hypervisor --no-hpet # which wraps after 4.7 s
clock 'PM timer' 1 --uefi --cpu max,-hypervisor --no-hpet
finish
