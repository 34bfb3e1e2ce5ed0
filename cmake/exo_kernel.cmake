# Building kernels with exo.
#
# exo_kernel_options(target): compiles the target for ring 0 of x86-64: freestanding, no red zone, no vector registers,
#   linked at -2 GiB or below 2 GiB.
# exo_add_kernel(target [LINKER_SCRIPT script] [sources...]): an executable with these options, linked with exo::exo and
#   nothing hosted.
# exo_add_grub_image(target KERNEL kernel CONFIG grub.cfg OUTPUT image.iso [NAME name]): a CD image with GRUB, which
#   starts from BIOS and UEFI, the kernel as /boot/<name>, and the configuration.

function(exo_kernel_options target)
    target_link_libraries(${target} PRIVATE exo::exo)
    # Short copies are to be instructions, not calls of memcpy, which the kernel still has to define: g++ needs -fbuiltin
    # for that, and clang to be told nothing of freestanding.
    target_compile_options(${target} PRIVATE
        $<$<CXX_COMPILER_ID:GNU>:-ffreestanding> -fbuiltin -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone
        -fno-stack-protector -fno-omit-frame-pointer -fcf-protection=none
        -ffunction-sections -fdata-sections
        $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit
            -fno-asynchronous-unwind-tables>
        $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-mgeneral-regs-only>
        $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:-mno-sse -mno-mmx>)
endfunction()

function(exo_add_kernel target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "LINKER_SCRIPT" "")
    add_executable(${target} ${arg_UNPARSED_ARGUMENTS})
    exo_kernel_options(${target})
    target_link_options(${target} PRIVATE
        -nostdlib -static -no-pie -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack)
    if(arg_LINKER_SCRIPT)
        target_link_options(${target} PRIVATE -Wl,-T,${arg_LINKER_SCRIPT})
        set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${arg_LINKER_SCRIPT})
    endif()
endfunction()

function(exo_add_grub_image target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "KERNEL;CONFIG;OUTPUT;NAME" "")
    if(NOT arg_NAME)
        set(arg_NAME ${arg_KERNEL})
    endif()
    find_program(EXO_GRUB_MKRESCUE NAMES grub-mkrescue grub2-mkrescue REQUIRED)
    # Only what the configuration needs, and what grub-mkrescue's own start-up asks for: GRUB reads modules from the slow CD.
    set(modules "normal multiboot2 part_acorn part_amiga part_apple part_bsd part_dfly part_dvh part_gpt part_msdos"
        "part_plan part_sun part_sunpc")
    list(JOIN modules " " modules)
    set(files ${CMAKE_CURRENT_BINARY_DIR}/${target}.files)
    add_custom_command(
        OUTPUT ${arg_OUTPUT}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${files}/boot/grub
        COMMAND ${CMAKE_STRIP} -o ${files}/boot/${arg_NAME} $<TARGET_FILE:${arg_KERNEL}>
        COMMAND ${CMAKE_COMMAND} -E copy ${arg_CONFIG} ${files}/boot/grub/grub.cfg
        COMMAND ${EXO_GRUB_MKRESCUE} -o ${arg_OUTPUT} "--install-modules=${modules}" --fonts= --themes= --locales=
            ${files} > ${target}.log 2>&1
        DEPENDS ${arg_KERNEL} ${arg_CONFIG}
        COMMENT "Making ${arg_OUTPUT}"
        VERBATIM)
    add_custom_target(${target} ALL DEPENDS ${arg_OUTPUT})
endfunction()
