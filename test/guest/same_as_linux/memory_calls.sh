/test/memory_calls
