#!/bin/sh
# run.sh IMAGE: boots it in QEMU, and succeeds if the kernel says that all went well.
timeout 60 qemu-system-x86_64 -accel tcg -m 64M -no-reboot -nodefaults -display none -boot d -cdrom "$1" \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04 -serial stdio
[ $? -eq 33 ]
