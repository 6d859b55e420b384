core_tests =
