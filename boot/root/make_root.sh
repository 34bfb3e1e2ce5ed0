#!/bin/sh
# make_root.sh TREE BUSYBOX: lays out the root file system of the reference kernel in TREE.
set -eu
tree=$1
busybox=$2

rm -rf "$tree"
for folder in bin dev etc home mnt proc root sbin tmp usr/bin usr/sbin var; do
    mkdir -p "$tree/$folder"
done
chmod 1777 "$tree/tmp"
chmod 700 "$tree/root"
cp "$busybox" "$tree/bin/busybox"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
cp /etc/os-release "$tree/etc/os-release"
echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"
echo exo >"$tree/etc/hostname"
