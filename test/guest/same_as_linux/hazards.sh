/test/hazards
