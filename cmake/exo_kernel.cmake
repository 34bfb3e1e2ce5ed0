# exo_add_kernel(target [sources...]): an executable for ring 0 of x86-64, linked with exo::exo and nothing hosted.

function(exo_add_kernel target)
    add_executable(${target} ${ARGN})
    target_link_libraries(${target} PRIVATE exo::exo)
    target_compile_options(${target} PRIVATE
        -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone
        -fno-stack-protector -fno-omit-frame-pointer -fcf-protection=none
        -ffunction-sections -fdata-sections
        $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit>
        $<$<CXX_COMPILER_ID:GNU>:-mgeneral-regs-only>
        $<$<CXX_COMPILER_ID:Clang>:-mno-sse -mno-mmx>)
    target_link_options(${target} PRIVATE
        -nostdlib -static -no-pie -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack)
endfunction()
