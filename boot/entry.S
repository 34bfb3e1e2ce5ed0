// From GRUB to 64-bit C++: the Multiboot2 header (Multiboot2 specification 3.1) and the way from its 32-bit machine
// state (3.3) to exo_main at -2 GiB.
//
// The tables built here map the first GiB three times with writable large pages: where it is, at the direct map, and at
// -2 GiB. exo_main replaces them.

#define MULTIBOOT2_HEADER 0xe85250d6
#define MULTIBOOT2_LOADED 0x36d76289
#define KERNEL_BASE 0xffffffff80000000

    .section .multiboot, "a"
    .balign 8
header:
    .long MULTIBOOT2_HEADER
    .long 0 // i386: entered in 32-bit protected mode
    .long header_end - header
    .long -(MULTIBOOT2_HEADER + (header_end - header))
    .word 0, 0 // end of tags
    .long 8
header_end:

    .section .entry, "ax"
    .code32
    .globl exo_entry32
exo_entry32:
    cli
    cld
    movl $entry_stack_top, %esp
    movl %eax, %esi // survives cpuid and rdtsc, as do edi and ebp
    movl %ebx, %edi
    rdtsc
    movl %eax, entry_tsc
    movl %edx, entry_tsc + 4

    movl $message_loader, %ebp
    cmpl $MULTIBOOT2_LOADED, %esi
    jne refuse
    movl $message_cpu, %ebp
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb refuse
    movl $0x80000001, %eax
    cpuid
    andl $(1 << 29 | 1 << 20 | 1 << 11), %edx // long mode, NX, SYSCALL
    cmpl $(1 << 29 | 1 << 20 | 1 << 11), %edx
    jne refuse

    movl $entry_pd, %ebx
    movl $0x83, %eax // present, writable, 2 MiB
    movl $512, %ecx
1:  movl %eax, (%ebx)
    movl $0, 4(%ebx)
    addl $0x200000, %eax
    addl $8, %ebx
    loop 1b
    movl $(entry_pd + 3), entry_pdpt_low
    movl $(entry_pd + 3), entry_pdpt_high + 510 * 8
    movl $(entry_pdpt_low + 3), entry_pml4
    movl $(entry_pdpt_low + 3), entry_pml4 + 256 * 8
    movl $(entry_pdpt_high + 3), entry_pml4 + 511 * 8

    movl $0x20, %eax // PAE
    movl %eax, %cr4
    movl $entry_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx // EFER: long mode, NX, SYSCALL
    rdmsr
    orl $(1 << 8 | 1 << 11 | 1), %eax
    wrmsr
    movl $0x80010023, %eax // CR0: paging, write protection, numeric errors, no FPU emulation
    movl %eax, %cr0
    lgdt entry_gdt_pointer
    ljmp $0x10, $entry64

// Tells COM1 and stops. ebp: the message.
refuse:
    movb (%ebp), %al
    testb %al, %al
    jz 1f
    movw $0x3f8, %dx
    outb %al, %dx
    incl %ebp
    jmp refuse
1:  hlt
    jmp 1b

message_loader:
    .asciz "exo: not started by a Multiboot2 loader\n"
message_cpu:
    .asciz "exo: this processor lacks long mode, NX or SYSCALL\n"

    .balign 16
entry_gdt:
    .quad 0, 0
    .quad 0x00209a0000000000 // 0x10: 64-bit code
    .quad 0x0000920000000000 // 0x18: data
entry_gdt_pointer:
    .word . - entry_gdt - 1
    .long entry_gdt
    .balign 8
entry_tsc:
    .quad 0

    .code64
entry64:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %edi, %edi          // the loader's information, physical
    movq entry_tsc, %rsi
    movabsq $entry_higher, %rax
    jmpq *%rax

    .text
entry_higher:
    movq $exo_boot_stack_top, %rsp
    xorl %ebp, %ebp
    call exo_main
1:  cli
    hlt
    jmp 1b

    .section .entry_bss, "aw", @nobits
    .balign 4096
entry_pml4:      .skip 4096
entry_pdpt_low:  .skip 4096
entry_pdpt_high: .skip 4096
entry_pd:        .skip 4096
entry_stack:     .skip 256
entry_stack_top:

    .bss
    .balign 4096
    .globl exo_boot_stack_guard
exo_boot_stack_guard: // taken out of the tables
    .skip 4096
    .skip 4 * 4096
exo_boot_stack_top:

    .section .note.GNU-stack, "", @progbits
