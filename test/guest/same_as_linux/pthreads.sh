/test/pthreads
/test/pthreads-glibc
