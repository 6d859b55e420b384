mount_tests = \
	tests/unit/mount_fresh_listings_test.cc \
	tests/unit/mount_inode_table_test.cc \
	tests/unit/mount_lookup_doubts_test.cc \
	tests/unit/mount_interrupts_test.cc \
	tests/unit/mount_name_packs_test.cc \
	tests/unit/mount_options_test.cc \
	tests/unit/mount_seen_attrs_test.cc
