# What the kernel must not do either, stopped by the processor, and the report of each panic: what was tried, and every
# entry of the page tables on the way.
. "$(dirname "$0")/common.bash" "$@"

# provoke ACTION ADDRESS [OPTION...]: leaves output, status and log.
provoke() {
    local action=$1 address=$2
    shift 2
    out=$("$exo" run --append provoke --log "$work/log" --timeout 60 "$@" --exec "/test/provoke $action $address" \
        2>"$work/err")
    status=$?
    log=$(tr -d '\r\0' <"$work/log" | sed -n '/exo: panic/,$p')
}
# stopped WHAT: the kernel panicked.
stopped() {
    expect "status of $1" "$status" 125
    expect "output of $1" "$out" ""
}

entry='is [0-9a-f]{16}, '
table="entry at [0-9a-f]{16} ${entry}table at [0-9a-f]{16}: write"

provoke read data
stopped "reading user memory"
expect_match "SMAP" "$log" 'page fault in the kernel'
expect_match "SMAP" "$log" "read in the kernel, which the page's protection forbids"
expect_match "the walk" "$log" "level 3 $table"$'\n'".*level 2 $table"$'\n'".*level 1 $table"
expect_match "the page" "$log" "level 0 entry at [0-9a-f]{16} ${entry}page at [0-9a-f]{16}: read write user"
expect_match "registers" "$log" 'rip [0-9a-f]{16}'
expect_match "calls" "$log" 'exo::boot::provoke'
provoke write data
stopped "writing user memory"
expect_match "SMAP" "$log" "write in the kernel, which the page's protection forbids"
provoke call code
stopped "executing user memory"
expect_match "SMEP" "$log" "instruction fetch in the kernel, which the page's protection forbids"
expect_match "the page" "$log" "level 0 entry at [0-9a-f]{16} ${entry}page at [0-9a-f]{16}: read execute user"
# It is these features that stop it.
for way in read write; do
    provoke $way data --cpu max,-smap
    expect "without SMAP: $way" "$status $out" "0 nothing stopped it"
done
provoke call code --cpu max,-smep
expect "without SMEP" "$status $out" "0 nothing stopped it"

provoke read 8
stopped "reading null"
expect_match "null" "$log" 'null pointer in the kernel \(0000000000000008\)'
expect_match "null" "$log" 'read in the kernel, of a page that is not there'
expect_match "null's path" "$log" 'level [0-3] entry at [0-9a-f]{16} is 0000000000000000, empty'
provoke write ffffffff80110000
stopped "writing the kernel's code"
expect_match "text" "$log" "write in the kernel, which the page's protection forbids"
expect_match "text" "$log" 'page at [0-9a-f]{16}: read execute global'
provoke write ffff800000110000
stopped "writing the kernel's code where all memory is mapped"
expect_match "direct map" "$log" 'page at [0-9a-f]{16}: read global'
provoke call ffff800000001000
stopped "executing data"
expect_match "NX" "$log" "instruction fetch in the kernel, which the page's protection forbids"
provoke read 8000000000000000
stopped "an address that cannot be"
expect_match "non-canonical" "$log" 'general protection fault'
provoke overflow 0
stopped "a stack used up"
expect_match "overflow" "$log" 'kernel stack overflow'

# Without the word it is an exception like others.
"$exo" run --exec '/test/provoke read data' >"$work/out" 2>/dev/null
expect "INT 4 without the option" $? 139

# What the processor offers is on, and where the kernel's tables are it does not tell programs.
out=$("$exo" run --exec 'for f in nx smep smap umip; do grep -qw $f /proc/cpuinfo && echo $f; done
/test/privileged_reads')
expect "features and instructions" "$out" "nx
smep
smap
umip
SGDT: signal 11
SIDT: signal 11
SLDT: signal 11
STR: signal 11
SMSW: signal 11"
out=$("$exo" run --cpu max,-umip --exec '/test/privileged_reads')
expect_match "without UMIP" "$out" 'SGDT: exit 0'
finish
