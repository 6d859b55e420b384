wire_fuzzers = lava_map wire
