store_fuzzers =
