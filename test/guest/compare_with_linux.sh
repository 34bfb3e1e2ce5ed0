#!/usr/bin/env bash
# compare_with_linux.sh EXO TREE CASE [OPTION...]: runs the shell script CASE under the booted exo kernel and under this
# machine's Linux (in TREE, the files of the same root image), and compares output and exit status.
set -u
exo=$1 tree=$(cd "$2" && pwd) case=$3
shift 3
command -v unshare >/dev/null || { echo "unshare (util-linux) is missing"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
as_root=(unshare --mount --pid --fork)
((EUID == 0)) || as_root+=(--user --map-root-user)
script=$(cat "$case")

# The same starting point on both: an empty environment but for these.
start='cd /; export PATH=/bin:/sbin HOME=/ TERM=linux; umask 022'
TREE=$tree SCRIPT=$script timeout 120 "${as_root[@]}" /bin/bash -c '
    cd "$TREE"
    mount -t tmpfs none tmp && mount --bind /dev dev && mount -t proc none proc || exit 125
    mount --bind "$TREE" "$TREE" && cd "$TREE" && mount -o remount,ro,bind "$TREE" "$TREE" || exit 125
    mount -t tmpfs none tmp && mount --bind /dev dev && mount -t proc none proc || exit 125
    exec env -i /usr/sbin/chroot . /bin/sh -c "'"$start"'
$SCRIPT"' </dev/null >"$work/linux" 2>&1
linux=$?
"$exo" run --timeout 240 "$@" --exec "$start
exec 2>&1
$script" >"$work/exo" 2>"$work/exo.err"
status=$?
if diff -a "$work/linux" "$work/exo" >"$work/diff" && ((status == linux)); then
    exit 0
fi
echo "Linux exits with $linux, exo with $status; their output (< Linux, > exo):"
cat "$work/diff"
tail -n 40 "$work/exo.err"
exit 1
