# cmake -DBUILD=DIR -DOUTSIDE=DIR -DWORK=DIR -DCXX=COMPILER -P run.cmake: installs exo and builds an outside project.

cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${WORK})
foreach(command IN ITEMS
    "--install;${BUILD};--prefix;${WORK}/prefix"
    "-S;${OUTSIDE};-B;${WORK}/build;-G;Ninja;-DCMAKE_PREFIX_PATH=${WORK}/prefix;-DCMAKE_CXX_COMPILER=${CXX}"
    "--build;${WORK}/build")
    execute_process(COMMAND ${CMAKE_COMMAND} ${command} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND ${WORK}/build/outside COMMAND_ERROR_IS_FATAL ANY)
