# cmake -DSCRIPT=layers.cmake -DWORK=DIR -P layers_test.cmake: the layer check finds each kind of violation.

cmake_minimum_required(VERSION 3.25)

function(expect_violation room line message)
    file(REMOVE_RECURSE ${WORK})
    file(WRITE ${WORK}/exo/arch/x86_64/paging.hpp "")
    file(WRITE ${WORK}/exo/mm/mapper.hpp "")
    file(WRITE ${WORK}/exo/fs/vfs.hpp "")
    file(WRITE ${WORK}/exo/${room}/case.hpp "${line}\n")
    execute_process(COMMAND ${CMAKE_COMMAND} -DINCLUDE=${WORK} -P ${SCRIPT}
        RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(message STREQUAL "")
        if(NOT status EQUAL 0)
            message(SEND_ERROR "${room}: '${line}' was refused: ${output}")
        endif()
    elseif(status EQUAL 0 OR NOT output MATCHES "${message}")
        message(SEND_ERROR "${room}: '${line}' gave status ${status}, not '${message}': ${output}")
    endif()
endfunction()

expect_violation(mm "#include <exo/fs/vfs.hpp>" "includes upward")
expect_violation(mm "#include \"../fs/vfs.hpp\"" "includes upward")
expect_violation(mm "  #  include <exo/base/../fs/vfs.hpp>" "includes upward")
expect_violation(fs "#include \"../arch/x86_64/paging.hpp\"" "must not know the architecture")
expect_violation(fs "#include <vector>" "for sim/ only")
expect_violation(fs "#include <exo/mm/mapper.hpp>" "")
expect_violation(drivers "#include <exo/arch/x86_64/paging.hpp>" "")
expect_violation(sim "#include <vector>" "")
