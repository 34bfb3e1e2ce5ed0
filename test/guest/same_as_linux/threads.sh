/test/threads
/test/threads-glibc
