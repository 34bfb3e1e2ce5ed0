// Multiboot2 header, and from 32-bit protected mode to kernel_main, with the first 128 MiB mapped where they are.
        .section .multiboot, "a"
header: .long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
        .long 0, 8
header_end:
        .text
        .code32
        .globl start
start:  movl $(stack + 16384), %esp
        movl %ebx, %edi                 // the loader's information
        movl $table, %ebx               // 64 large pages
        movl $0x83, %eax
1:      movl %eax, (%ebx)
        addl $0x200000, %eax
        addl $8, %ebx
        cmpl $(table + 64 * 8), %ebx
        jb 1b
        movl $(table + 3), parent
        movl $(parent + 3), root
        movl $0x20, %eax                // PAE
        movl %eax, %cr4
        movl $root, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx          // EFER: long mode, NX
        rdmsr
        orl $0x900, %eax
        wrmsr
        movl $0x80010001, %eax          // CR0: paging, write protection
        movl %eax, %cr0
        lgdt gdt_pointer
        ljmp $0x10, $long
        .code64
long:   xorl %eax, %eax
        movl %eax, %ss
        call kernel_main
gdt:    .quad 0, 0, 0x00209a0000000000
gdt_pointer: .word . - gdt - 1; .long gdt
        .comm root, 4096, 4096
        .comm parent, 4096, 4096
        .comm table, 4096, 4096
        .comm stack, 16384, 4096
        .section .note.GNU-stack, "", @progbits
