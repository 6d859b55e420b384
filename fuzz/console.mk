console_fuzzers = console
