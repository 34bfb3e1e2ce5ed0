/test/scheduling
