store_tests =
