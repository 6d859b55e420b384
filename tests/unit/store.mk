store_tests = tests/unit/store_content_test.cc tests/unit/store_crash_test.cc \
	tests/unit/store_fsck_test.cc tests/unit/store_metadata_test.cc tests/unit/store_read_ahead_test.cc \
	tests/unit/store_storage_dir_test.cc
