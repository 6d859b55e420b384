test_lib_sources =
