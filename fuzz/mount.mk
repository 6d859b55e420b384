mount_fuzzers =
