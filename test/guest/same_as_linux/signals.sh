/test/signals
