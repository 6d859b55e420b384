wire_fuzzers = wire
