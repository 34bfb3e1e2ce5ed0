// Every way into the kernel and out of it, and the switch between kernel stacks.
//
// GS: in the kernel its base is this CPU's block, in user mode the program's; SWAPGS exchanges the two. An entry that
// can interrupt kernel code at a moment when GS is still (or again) the program's, asks the register itself; the others
// go by the privilege that they interrupted. FSGSBASE stays off, so that a program cannot make its base look like ours.
//
// The frame is exo::x86_64::trap_frame, at a multiple of 16 when C++ is called.

#define CPU_KERNEL_STACK 8 // offsets in cpu_block (boot/cpu.hpp)
#define CPU_USER_STACK 16

#define FRAME_VECTOR (15 * 8)
#define FRAME_RIP (17 * 8)
#define FRAME_RFLAGS (19 * 8)
#define FRAME_WORDS 22

#define USER_DATA 0x2b
#define USER_CODE 0x33
#define VECTOR_DEBUG 1
#define VECTOR_SYSTEM_CALL 256

.macro save_registers
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
.endm

.macro restore_registers
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
.endm

    .section .text.hot, "ax", @progbits

// One stub for each vector, 16 bytes apart: makes the stack look the same for all.
    .balign 16
    .globl exo_trap_stubs
exo_trap_stubs:
    .set number, 0
    .rept 256
    .balign 16
    .if !(number == 8 || (number >= 10 && number <= 14) || number == 17 || number == 21 || number == 29 || number == 30)
    pushq $0
    .endif
    pushq $number
    .if number == 1 || number == 2 || number == 8 || number == 18
    jmp exo_trap_any_gs
    .else
    jmp exo_trap
    .endif
    .set number, number + 1
    .endr

exo_trap:
    testb $3, 24(%rsp)
    jz 1f
    swapgs
1:  save_registers
    movq %rsp, %rdi
    call exo_on_trap
trap_return:
    testb $3, FRAME_RIP + 8(%rsp)
    jz 1f
    swapgs
1:  restore_registers
    addq $16, %rsp
    iretq

// #DB, NMI, #DF and #MC: on a stack of their own, with the GS of either side.
exo_trap_any_gs:
    save_registers
    movl $0xc0000101, %ecx
    rdmsr
    xorl %ebx, %ebx
    testl %edx, %edx
    js 1f
    swapgs
    incl %ebx
1:  testb $3, FRAME_RIP + 8(%rsp)
    jz 3f
    cmpq $VECTOR_DEBUG, FRAME_VECTOR(%rsp)
    jne 3f
    // A debug trap of a program is an ordinary exception: its thread may sleep in it, so it moves to the thread's
    // stack.
    movq %rsp, %rsi
    movq %gs:CPU_KERNEL_STACK, %rdi
    subq $(FRAME_WORDS * 8), %rdi
    movq %rdi, %rsp
    movl $FRAME_WORDS, %ecx
    rep movsq
    movq %rsp, %rdi
    call exo_on_trap
    jmp trap_return
3:  movq %rsp, %rdi
    call exo_on_trap
    testl %ebx, %ebx
    jz 4f
    swapgs
4:  restore_registers
    addq $16, %rsp
    iretq

    .globl exo_system_call_entry
exo_system_call_entry:
    swapgs
    movq %rsp, %gs:CPU_USER_STACK
    movq %gs:CPU_KERNEL_STACK, %rsp
    pushq $USER_DATA
    pushq %gs:CPU_USER_STACK
    pushq %r11
    pushq $USER_CODE
    pushq %rcx
    pushq $0
    pushq $VECTOR_SYSTEM_CALL
    save_registers
    movq %rsp, %rdi
    call exo_on_system_call
    // SYSRET takes RIP from RCX and RFLAGS from R11. With an RIP that is not canonical it faults in ring 0 on the
    // user's stack (SDM volume 2, SYSRET), and it does not restore RF or TF as IRET does: those frames leave by IRET,
    // as does one that somebody changed so that RCX and R11 are to differ.
    movq FRAME_RIP(%rsp), %rcx
    cmpq %rcx, 13 * 8(%rsp)
    jne trap_return
    movq FRAME_RFLAGS(%rsp), %r11
    cmpq %r11, 4 * 8(%rsp)
    jne trap_return
    testq $0x10100, %r11
    jnz trap_return
    shrq $47, %rcx
    jnz trap_return
    restore_registers
    movq 40(%rsp), %rsp
    swapgs
    sysretq

// [[noreturn]] void exo_enter_user(trap_frame*): interrupts are off, so wherever the frame is it serves as a stack to
// take registers from; what cannot be masked has a stack of its own.
    .globl exo_enter_user
exo_enter_user:
    movq %rdi, %rsp
    jmp trap_return

// void exo_switch_stacks(void** save, void* to): keeps this thread's callee-saved registers on its stack, stores where
// they are, and continues the thread whose registers lie at `to`.
    .globl exo_switch_stacks
exo_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret

// Where a new thread starts: r12(r13).
    .globl exo_thread_start
exo_thread_start:
    movq %r13, %rdi
    xorl %ebp, %ebp
    call *%r12
    ud2

// size_t exo_user_copy(void* to, const void* from, size_t bytes): returns how many bytes it did not copy. Any of its
// accesses may fault at a user address; the trap then continues at exo_user_copy_fixup.
    .globl exo_user_copy
exo_user_copy:
    movq %rdx, %rcx
user_copy_begin:
    cmpq $64, %rcx
    jb 2f
1:  movq (%rsi), %rax
    movq 8(%rsi), %r8
    movq 16(%rsi), %r9
    movq 24(%rsi), %r10
    movq %rax, (%rdi)
    movq %r8, 8(%rdi)
    movq %r9, 16(%rdi)
    movq %r10, 24(%rdi)
    movq 32(%rsi), %rax
    movq 40(%rsi), %r8
    movq 48(%rsi), %r9
    movq 56(%rsi), %r10
    movq %rax, 32(%rdi)
    movq %r8, 40(%rdi)
    movq %r9, 48(%rdi)
    movq %r10, 56(%rdi)
    addq $64, %rsi
    addq $64, %rdi
    subq $64, %rcx
    cmpq $64, %rcx
    jae 1b
2:  cmpq $8, %rcx
    jb 4f
3:  movq (%rsi), %rax
    movq %rax, (%rdi)
    addq $8, %rsi
    addq $8, %rdi
    subq $8, %rcx
    cmpq $8, %rcx
    jae 3b
4:  cmpq $4, %rcx
    jb 5f
    movl (%rsi), %eax
    movl %eax, (%rdi)
    addq $4, %rsi
    addq $4, %rdi
    subq $4, %rcx
5:  cmpq $2, %rcx
    jb 6f
    movzwl (%rsi), %eax
    movw %ax, (%rdi)
    addq $2, %rsi
    addq $2, %rdi
    subq $2, %rcx
6:  testq %rcx, %rcx
    jz 7f
    movzbl (%rsi), %eax
    movb %al, (%rdi)
    decq %rcx
user_copy_end:
7:  movq %rcx, %rax
    ret

// A block of several bytes was cut: what is left of it goes byte by byte, up to the very byte that faults.
user_copy_fixup:
    testq %rcx, %rcx
    jz 2f
1:  movzbl (%rsi), %eax
    movb %al, (%rdi)
    incq %rsi
    incq %rdi
    decq %rcx
    jnz 1b
user_copy_done:
2:  movq %rcx, %rax
    ret

// int exo_user_compare_exchange(uint32_t* at, uint32_t* expected, uint32_t desired): 0, and the value found in
// *expected; 1 if `at` faults.
    .globl exo_user_compare_exchange
exo_user_compare_exchange:
    movl (%rsi), %eax
user_compare_exchange_begin:
    lock cmpxchgl %edx, (%rdi)
user_compare_exchange_end:
    movl %eax, (%rsi)
    xorl %eax, %eax
    ret
user_compare_exchange_fixup:
    movl $1, %eax
    ret

// Instructions that may fault at a user address: from, to, and where the trap continues when the fault stands.
    .section .exo.exception_table, "a"
    .balign 8
    .quad user_copy_begin, user_copy_end, user_copy_fixup
    .quad user_copy_fixup, user_copy_done, user_copy_done
    .quad user_compare_exchange_begin, user_compare_exchange_end, user_compare_exchange_fixup

    .section .note.GNU-stack, "", @progbits
