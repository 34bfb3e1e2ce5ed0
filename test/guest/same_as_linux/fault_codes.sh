/test/fault_codes
