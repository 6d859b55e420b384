client_tests = \
	tests/unit/client_delayed_names_fixture.h \
	tests/unit/client_delayed_names_made_test.cc \
	tests/unit/client_delayed_names_more_test.cc \
	tests/unit/client_delayed_names_test.cc \
	tests/unit/client_own_locks_test.cc \
	tests/unit/client_directory_cache_test.cc \
	tests/unit/client_host_link_test.cc \
	tests/unit/client_completion_test.cc \
	tests/unit/client_content_test.cc \
	tests/unit/client_fixture.h \
	tests/unit/client_listing_test.cc \
	tests/unit/client_parts_test.cc \
	tests/unit/client_local_opens_test.cc \
	tests/unit/client_paths_test.cc \
	tests/unit/client_ring_stop_test.cc \
	tests/unit/client_session_test.cc \
	tests/unit/client_write_back_attributes_test.cc \
	tests/unit/client_write_back_fixture.h \
	tests/unit/client_write_back_more_test.cc \
	tests/unit/client_write_back_test.cc
