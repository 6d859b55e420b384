sysreal_fuzzers =
