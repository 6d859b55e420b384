sim_fuzzers =
