# Priorities, nice values and CPUs, as busybox's tools set them and /proc and ps show them; and that they count.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --timeout 60 --exec '
field() { set -- "$2" $(sed "s/.*) //" "/proc/$1/stat"); eval "echo \${$(($1 - 1))}"; }
show() { echo "$2: priority $(field $1 18) nice $(field $1 19) real-time $(field $1 40) policy $(field $1 41)"; }
sleep 1000 & id=$!
show $id normal
renice 5 $id >/dev/null; show $id reniced
renice -n -8 -p $id >/dev/null; show $id "8 less"
taskset -p $id | sed "s/$id/PID/"
taskset -p 1 $id >/dev/null && grep Cpus_allowed /proc/$id/status
taskset -p 8 $id >/dev/null 2>&1 || echo "no such CPU"
kill $id
/test/scheduling 0 7 /bin/sleep 1000 & id=$!; sleep 0.1; show $id nice; kill $id
/test/scheduling 1 30 /bin/sleep 1000 & id=$!; sleep 0.1; show $id fifo; kill $id
/test/scheduling 2 31 /bin/sleep 1000 & id=$!; sleep 0.1; show $id "round robin"; kill $id
/test/scheduling 5 0 /bin/sleep 1000 & id=$!; sleep 0.1; show $id idle; kill $id
spin() { while :; do :; done; }
used() { field $1 14; }
spin & one=$!; spin & other=$!
renice 10 $other >/dev/null
a=$(used $one) b=$(used $other); sleep 2; a=$(($(used $one) - a)) b=$(($(used $other) - b))
[ $a -gt $((4 * b)) ] && [ $b -gt 0 ] && echo "a tenth for nice 10" || echo "nice: $a to $b"
grep "^prio" /proc/$other/sched | tr -d " "
grep "queue_length{class=.fair.} 2" /proc/exo/metrics
kill $one $other
exit 0' 2>&1)
expect "status" $? 0
expect "output" "$out" "normal: priority 20 nice 0 real-time 0 policy 0
reniced: priority 25 nice 5 real-time 0 policy 0
8 less: priority 17 nice -3 real-time 0 policy 0
pid PID's current affinity mask: 1
Cpus_allowed:	1
Cpus_allowed_list:	0
no such CPU
nice: priority 27 nice 7 real-time 0 policy 0
fifo: priority -31 nice 0 real-time 30 policy 1
round robin: priority -32 nice 0 real-time 31 policy 2
idle: priority 20 nice 0 real-time 0 policy 5
a tenth for nice 10
prio:130
exo_sched_queue_length{class=\"fair\"} 2"


# Whose time it is: a program that computes, and one that has the kernel copy.
times=$("$exo" run --timeout 60 --exec '
spin() { while :; do :; done; }
spin & own=$!; sleep 1; set -- $(cat /proc/$own/stat); kill $own
shift 13; own_user=$1 own_system=$2
dd if=/dev/zero of=/dev/null bs=64k 2>/dev/null & copies=$!; sleep 1; set -- $(cat /proc/$copies/stat); kill $copies
shift 13
[ $own_user -gt $((8 * own_system)) ] && echo "mostly its own"
[ $2 -gt $((4 * $1)) ] && echo "mostly the kernel'"'"'s" || echo "$1 $2"
awk "/^cpu / { print (\$2 > 40 && \$4 > 40) ? \"both\" : \$0 }" /proc/stat')
expect "whose time" "$times" $'mostly its own\nmostly the kernel\'s\nboth'

# What ran is JSON that ui.perfetto.dev opens.
"$exo" run --timeout 60 --exec 'sleep 0.1; echo | cat; cat /proc/exo/trace' >"$work/trace"
expect "trace's status" $? 0
cat >"$work/check.cmake" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
file(READ ${TRACE} text)
string(JSON count LENGTH "${text}" traceEvents)
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
    string(JSON name GET "${text}" traceEvents ${i} name)
    string(JSON phase GET "${text}" traceEvents ${i} ph)
    string(REGEX REPLACE "/[0-9]+$" "" name "${name}")
    if(phase STREQUAL "X")
        list(APPEND names ${name})
    elseif(phase STREQUAL "i")
        list(APPEND woken ${name})
    endif()
endforeach()
if(sleep IN_LIST woken)
    message(STATUS "sleep woken")
endif()
foreach(name init sh sleep cat)
    if(name IN_LIST names)
        message(STATUS "${name}")
    endif()
endforeach()
CMAKE
expect "who ran" "$(cmake -DTRACE="$work/trace" -P "$work/check.cmake" 2>&1)" $'-- sleep woken\n-- init\n-- sh\n-- sleep\n-- cat'
finish
