# Mount points, and what mke2fs adds to a tree, look different in the tree itself.
for i in 1 2 3; do echo $i | cat | wc -c; done
ls -l / | grep -vE '^total| (dev|proc|tmp|mnt|lost\+found)$' | sort
grep NAME /etc/os-release
false
