wire_fuzzers = lava_map node_messages wire
