# File applets over tmpfs and the read-only root.
cd /tmp
mkdir -p a/b/c && echo one >a/1 && echo two >a/b/2 && ln -s ../1 a/b/link && ln a/1 a/hard
cat a/b/link a/b/2
ls -1R a
cp -r a copy && diff -r a copy && echo same
mv copy moved && ls -1 moved
find a -type f | sort
tar cf t.tar a && mkdir x && tar xf t.tar -C x && find x | sort
seq 1 20000 >numbers && sort -rn numbers | head -n 3 && wc numbers && md5sum numbers
dd if=numbers of=part bs=1000 skip=3 count=2 2>/dev/null && wc -c part && md5sum part
grep -c 7 numbers; sed -n '5,7p' numbers; awk '{ s += $1 } END { print s }' numbers
gzip -k numbers && gunzip -c numbers.gz | cmp - numbers && echo unzipped
stat -c '%n %s %a %F %h' a/1 a/b/link && stat -c '%n %a %F %h' a/b
chmod 640 a/1 && stat -c %a a/1
truncate -s 10 numbers && cat numbers
rm -r a x moved && ls -1
rmdir nothing; echo "rmdir $?"
touch /bin/new; echo "touch $?"
readlink /bin/sh; cd /bin && pwd
cat /nothing; echo "cat $?"
ls -ld /bin /etc/os-release | cut -c1-10
md5sum /bin/busybox
head -c 100000 /dev/zero | md5sum
echo lost >/dev/full; echo "full $?"
[ "$(head -c 16 /dev/urandom | md5sum)" != "$(head -c 16 /dev/urandom | md5sum)" ] && echo random
