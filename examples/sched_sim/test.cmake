# Runs the simulator ${SIM} on its sample workloads and on files that are wrong, and checks what it says.

cmake_minimum_required(VERSION 3.25)
set(workloads ${CMAKE_CURRENT_LIST_DIR}/workloads)
set(scratch ${CMAKE_CURRENT_BINARY_DIR}/sched_sim_test)
file(MAKE_DIRECTORY ${scratch})

# Sets `output`; the run succeeds.
function(simulate)
    execute_process(COMMAND ${SIM} ${ARGV} OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "sched_sim ${ARGV}: ${status}\n${err}")
    endif()
    set(output "${out}" PARENT_SCOPE)
endfunction()

# Sets name_<column> for a task's line, numbers with decimals as hundredths.
function(read_line name)
    if(NOT output MATCHES "(^|\n)${name} [^\n]*")
        message(FATAL_ERROR "no task ${name} in\n${output}")
    endif()
    string(REPLACE "|" "" line "${CMAKE_MATCH_0}")
    string(REGEX REPLACE "[ \n]+" ";" fields "${line}")
    list(REMOVE_ITEM fields "")
    list(POP_FRONT fields)
    foreach(column number share least most p50 p95 p99 max jobs misses migrations switches)
        list(POP_FRONT fields field)
        string(REGEX REPLACE "\\." "" field "${field}")
        string(REGEX REPLACE "^0+([0-9])" "\\1" field "${field}")
        set(${name}_${column} ${field} PARENT_SCOPE)
    endforeach()
endfunction()

function(expect_between what value least most)
    if(value LESS least OR value GREATER most)
        message(FATAL_ERROR "${what} is ${value}, not between ${least} and ${most}:\n${output}")
    endif()
endfunction()

# Weights 3121, 1024, 1024, 335 of 5504, to a hundredth of the CPU.
simulate(--seed 1 ${workloads}/weights.json)
foreach(task greedy plain polite)
    read_line(${task})
endforeach()
expect_between("greedy's share" ${greedy_share} 5570 5770)
expect_between("plain's share" ${plain_share} 3621 3821)
expect_between("plain's least" ${plain_least} 1760 1960)
expect_between("polite's share" ${polite_share} 509 709)

# An admitted set misses nothing, and what it leaves goes to the others.
foreach(seed 1 2 3)
    simulate(--seed ${seed} ${workloads}/deadlines.json)
    foreach(task control camera planner background)
        read_line(${task})
    endforeach()
    foreach(task control camera planner)
        expect_between("${task}'s misses" ${${task}_misses} 0 0)
    endforeach()
    expect_between("control's jobs" ${control_jobs} 1990 2000)
    expect_between("planner's share" ${planner_share} 3900 4100)
    expect_between("background's share" ${background_share} 900 1100)
endforeach()

# Who sleeps within a job keeps the deadline where all bandwidths together allow it, ...
file(WRITE ${scratch}/within_bandwidth.json "{\"global\": {\"duration\": 1}, \"tasks\": {
    \"pausing\": {\"policy\": \"SCHED_DEADLINE\", \"dl-runtime\": 4000, \"dl-deadline\": 10000, \"dl-period\": 20000,
        \"run0\": 3000, \"sleep\": 3000, \"run1\": 900, \"timer\": {\"period\": 20000, \"mode\": \"absolute\"}},
    \"other\": {\"policy\": \"SCHED_DEADLINE\", \"dl-runtime\": 8000, \"dl-deadline\": 15000, \"dl-period\": 20000,
        \"run\": 7900, \"timer\": {\"period\": 20000, \"mode\": \"absolute\"}}}}")
simulate(${scratch}/within_bandwidth.json)
foreach(task pausing other)
    read_line(${task})
    expect_between("${task}'s jobs" ${${task}_jobs} 49 50)
    expect_between("${task}'s misses" ${${task}_misses} 0 0)
endforeach()
# ... and not where only the exact test admits them all: others would miss.
file(WRITE ${scratch}/beyond_bandwidth.json "{\"global\": {\"duration\": 1}, \"tasks\": {
    \"pausing\": {\"policy\": \"SCHED_DEADLINE\", \"dl-runtime\": 47000, \"dl-period\": 100000,
        \"run0\": 10000, \"sleep\": 10000, \"run1\": 36900, \"timer\": {\"period\": 100000, \"mode\": \"absolute\"}},
    \"strict\": {\"policy\": \"SCHED_DEADLINE\", \"delay\": 52000,
        \"dl-runtime\": 47000, \"dl-deadline\": 50000, \"dl-period\": 100000,
        \"run\": 46900, \"timer\": {\"period\": 100000, \"mode\": \"absolute\"}}}}")
simulate(${scratch}/beyond_bandwidth.json)
read_line(strict)
expect_between("strict's jobs" ${strict_jobs} 9 10)
expect_between("strict's misses" ${strict_misses} 0 0)

# Fixed priorities before all that is fair, on four CPUs; what is pinned stays.
simulate(--topology 2,2,1,1 ${workloads}/mixed.json)
read_line(audio)
expect_between("audio's misses" ${audio_misses} 0 0)
read_line(compiler)
expect_between("compiler's migrations" ${compiler_migrations} 100 1000000)

# The same seed gives the same trace, byte for byte; another seed another. It is JSON.
simulate(--cpus 4 --duration 0.05 --seed 7 --trace ${scratch}/a.json ${workloads}/mixed.json)
simulate(--cpus 4 --duration 0.05 --seed 7 --trace ${scratch}/b.json ${workloads}/mixed.json)
simulate(--cpus 4 --duration 0.05 --seed 8 --trace ${scratch}/c.json ${workloads}/mixed.json)
file(READ ${scratch}/a.json a)
file(READ ${scratch}/b.json b)
file(READ ${scratch}/c.json c)
if(NOT a STREQUAL b)
    message(FATAL_ERROR "one seed, two traces")
endif()
if(a STREQUAL c)
    message(FATAL_ERROR "the seed changes nothing")
endif()
string(JSON events ERROR_VARIABLE problem LENGTH "${a}" traceEvents)
if(problem)
    message(FATAL_ERROR "the trace is no JSON: ${problem}")
endif()
expect_between("the trace's length" ${events} 500 100000)
foreach(part "\"name\":\"CPU 3\"" "\"tid\":1,\"name\":\"pinned-" "\"ph\":\"X\",\"pid\":1,\"tid\":0,\"name\":\"compiler-" "\"cat\":\"wake-up\"")
    string(FIND "${a}" "${part}" found)
    if(found EQUAL -1)
        message(FATAL_ERROR "no ${part} in the trace")
    endif()
endforeach()
if(a MATCHES "\"tid\":[23],\"name\":\"pinned")
    message(FATAL_ERROR "a thread ran where it may not")
endif()

# A thousand CPUs and ten thousand threads, each of which runs its 800 us in all five of its periods.
simulate(--cpus 1024 --duration 0.05 ${workloads}/thousand.json)
read_line(worker)
expect_between("workers" ${worker_number} 10000 10000)
expect_between("worker's least" ${worker_least} 795 800)
expect_between("worker's most" ${worker_most} 800 805)
expect_between("worker's jobs" ${worker_jobs} 49900 50000)
expect_between("worker's misses" ${worker_misses} 0 0)
expect_between("worker's switches" ${worker_switches} 50000 75000)
if(NOT output MATCHES "\n([0-9]+) switches and ([0-9]+) wake-ups in")
    message(FATAL_ERROR "no count of events in\n${output}")
endif()
set(switches ${CMAKE_MATCH_1})
set(wake_ups ${CMAKE_MATCH_2})
expect_between("the switches" ${switches} ${worker_switches} 80000)
expect_between("the wake-ups" ${wake_ups} 50000 60000)

# A phase runs on the CPUs that it names; where it names none, on those of its task.
file(WRITE ${scratch}/wandering.json "{\"global\": {\"duration\": 1}, \"tasks\": {
    \"wandering\": {\"cpus\": [0], \"phases\": {
        \"one\": {\"cpus\": [1], \"loop\": 3, \"run\": 500, \"sleep\": 100},
        \"either\": {\"cpus\": [2, 3], \"run\": 2000},
        \"own\": {\"run\": 2000}}},
    \"busy\": {\"instance\": 3, \"cpus\": [2], \"run\": 1000}}}")
simulate(--cpus 4 --duration 0.1 --trace ${scratch}/wandering_trace.json ${scratch}/wandering.json)
file(READ ${scratch}/wandering_trace.json trace)
string(REGEX MATCHALL "\"ph\":\"X\",\"pid\":1,\"tid\":[0-9],\"name\":\"wandering\"" slices "${trace}")
string(REGEX REPLACE "[^;]*tid\":([0-9])[^;]*;?" "\\1" places "${slices}")
if(NOT places MATCHES "^(111[23]+0)+(1*|111[23]+)$")
    message(FATAL_ERROR "the phases run on CPUs ${places}")
endif()

# expect_error(kind line text option...): the file is refused, with the kind and the line.
function(expect_error kind line text)
    file(WRITE ${scratch}/wrong.json "${text}")
    execute_process(COMMAND ${SIM} ${ARGN} ${scratch}/wrong.json OUTPUT_QUIET ERROR_VARIABLE err RESULT_VARIABLE status)
    if(NOT status EQUAL 1 OR NOT err MATCHES "wrong\\.json:${line}: [^\n]*\\(${kind}\\)")
        message(FATAL_ERROR "not ${kind} in line ${line}, but ${status}: ${err}\n${text}")
    endif()
endfunction()
expect_error(malformed_json 1 "")
expect_error(malformed_json 3 "{\n\"tasks\": {\n}")
expect_error(malformed_json 2 "{\n\"tasks\": }")
expect_error(malformed_json 2 "{\n/* open\n")
expect_error(malformed_json 1 "{\"tasks\": {\"a\": {\"run\": 01}}}")
expect_error(no_tasks 2 "{\n\"tasks\": {}}")
expect_error(unknown_key 3 "{\"tasks\": {\n\"a\": { // a comment\n\"walk\": 1}}}")
expect_error(unknown_key 2 "{\"tasks\": {\"a\": {\"run\": 1}},\n\"globe\": {}}")
expect_error(repeated_key 2 "{\"tasks\": {\"a\": {\"run\": 1,\n\"run\": 1}}}")
expect_error(wrong_type 2 "{\"tasks\": {\"a\":\n {\"run\": \"long\"}}}")
expect_error(wrong_type 1 "{\"tasks\": {\"a\": {\"run\": 1.5}}}")
expect_error(out_of_range 2 "{\"tasks\": {\"a\": {\"policy\": \"SCHED_FIFO\",\n\"priority\": 100, \"run\": 1}}}")
expect_error(no_policy 1 "{\"tasks\": {\"a\": {\"policy\": \"SCHED_BEST\", \"run\": 1}}}")
expect_error(timeless_loop 1 "{\"tasks\": {\"a\": {\"loop\": -1}}}")
expect_error(mixed_phases 1 "{\"tasks\": {\"a\": {\"run\": 1, \"phases\": {\"p\": {\"run\": 1}}}}}")
expect_error(no_allowed_cpu_online 2 "{\"tasks\": {\n\"a\": {\"cpus\": [1], \"run\": 1}}}")
expect_error(no_allowed_cpu_online 3
    "{\"tasks\": {\"a\": {\"phases\": {\n\"p\": {\"cpus\": [0], \"run\": 1},\n\"q\": {\"cpus\": [1, 2], \"run\": 1}}}}}")
expect_error(no_allowed_cpu_online 1
    "{\"tasks\": {\"a\": {\"cpus\": [1], \"run\": 1},\n\"b\": {\"cpus\": [1], \"run\": 1}}}")
expect_error(wrong_type 2 "{\"tasks\": {\"a\": {\"phases\": {\n\"p\": {\"cpus\": 0, \"run\": 1}}}}}")
expect_error(runtime_exceeds_deadline 1
    "{\"tasks\": {\"a\": {\"policy\": \"SCHED_DEADLINE\", \"dl-runtime\": 20, \"dl-period\": 10, \"run\": 1}}}")
expect_error(utilization_too_high 2
    "{\"tasks\": {\n\"a\": {\"policy\": \"SCHED_DEADLINE\", \"dl-runtime\": 96, \"dl-period\": 100, \"run\": 1}}}")
expect_error(deadline_affinity 2
    "{\"tasks\": {\"a\": {\"policy\": \"SCHED_DEADLINE\", \"dl-runtime\": 10, \"dl-period\": 100, \"phases\": {
        \"p\": {\"cpus\": [0], \"run\": 1}}}}}"
    --cpus 2)
