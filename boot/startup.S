// Where the other CPUs begin: a page that is copied below 1 MiB, for start-up interrupts to name (SDM volume 3, 9.4),
// and their way from there to C++ at -2 GiB. All of them may run here at once.

    .section .rodata.startup, "a"
    .balign 16
    .code16
    .globl exo_startup_begin
exo_startup_begin:
    cli
    cld
    movw %cs, %bx
    movw %bx, %ds
    movzwl %bx, %ebx
    shll $4, %ebx // the page
    // Whoever comes writes the same.
    leal (startup_gdt - exo_startup_begin)(%ebx), %eax
    movl %eax, startup_gdt_pointer + 2 - exo_startup_begin
    leal (startup64 - exo_startup_begin)(%ebx), %eax
    movl %eax, startup64_pointer - exo_startup_begin
    lgdtl startup_gdt_pointer - exo_startup_begin

    movl $0x20, %eax // PAE
    movl %eax, %cr4
    movl exo_startup_root - exo_startup_begin, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx // EFER: long mode, NX, SYSCALL
    rdmsr
    orl $(1 << 8 | 1 << 11 | 1), %eax
    wrmsr
    movl $0x80010023, %eax // CR0: as entry.S sets it, and caches on
    movl %eax, %cr0
    ljmpl *(startup64_pointer - exo_startup_begin)

    .code64
startup64:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movabsq $processor_entry, %rax
    jmpq *%rax

    .balign 8
startup_gdt:
    .quad 0, 0
    .quad 0x00209b0000000000 // 0x10: 64-bit code; accessed already, since nothing is to be written here
    .quad 0x0000930000000000 // 0x18: data
startup_gdt_pointer:
    .word . - startup_gdt - 1
    .long 0
startup64_pointer:
    .long 0
    .word 0x10
    .balign 8
    .globl exo_startup_root
exo_startup_root: // the page tables, below 4 GiB: the kernel's, and this page where it is
    .long 0
    .globl exo_startup_end
exo_startup_end:

    .text
// Whoever comes takes a stack; one that finds none was not awaited.
processor_entry:
    movq $-1, %rax
    lock xaddq %rax, exo_startup_stacks_left
    decq %rax
    js 1f
    movq exo_startup_stacks, %rbx
    movq (%rbx, %rax, 8), %rsp
    xorl %ebp, %ebp
    call exo_processor_main
1:  cli
    hlt
    jmp 1b

    .section .note.GNU-stack, "", @progbits
