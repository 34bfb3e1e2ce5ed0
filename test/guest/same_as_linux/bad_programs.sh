# What is no program is refused with the error Linux gives.
cd /tmp
head -c 40 /bin/busybox >truncated
cp /bin/busybox foreign; printf '\050' | dd of=foreign bs=1 seek=18 conv=notrunc 2>/dev/null
cp /bin/busybox absurd; printf '\377\377\377\377\377\377\377\177' | dd of=absurd bs=1 seek=32 conv=notrunc 2>/dev/null
printf '#!/nothing/here\n' >script; printf '#!/bin/sh\necho "script $1"\n' >good; : >empty
chmod +x *
for program in ./truncated ./foreign ./absurd ./script; do
    sh -c "exec $program" 2>&1; echo "$program: $?"
done
./good argument; ./empty; echo "empty: $?"
/tmp; echo "directory: $?"
