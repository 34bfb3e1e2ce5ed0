for i in 1 2 3; do echo $i | cat | wc -c; done; ls -l / | grep -vE ' (dev|proc|tmp|mnt)$' | sort; grep NAME /etc/os-release; false
