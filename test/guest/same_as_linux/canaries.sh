/test/canaries 4 200 1 && /test/canaries 6 100 2
