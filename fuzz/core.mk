core_fuzzers =
