sim_tests =
