/test/pointers
