store_fuzzers = store_rows
