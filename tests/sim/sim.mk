sim_test_sources =
