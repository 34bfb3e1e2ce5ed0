# /proc as busybox and scripts read it.
cat /proc/self/comm
cat /proc/self/cmdline | tr '\0' ' '; echo
grep -cE '^(MemTotal|MemFree|MemAvailable|Cached): +[0-9]+ kB$' /proc/meminfo
cut -d' ' -f2- /proc/self/stat | awk '{ print $1, NF }'
grep -E '^(Name|State|Uid):' /proc/self/status
grep -c '^[0-9a-f]*-[0-9a-f]* [r-][w-][x-][ps] ' /proc/self/maps | awk '{ print ($1 > 3) }'
grep -o '\[stack\]' /proc/self/maps
[ "$(readlink /proc/self)" -gt 0 ] && echo number
grep -c processor /proc/cpuinfo | awk '{ print ($1 > 0) }'
ps | awk '$NF == "ps"' | wc -l
free | awk 'NR == 2 { print ($2 > $3) }'
awk '{ print NF }' /proc/uptime
