/test/hello && GREETING=hi /test/hello musl && /test/hello-glibc glibc && /test/hello-pie pie
echo $?
