/test/faults
