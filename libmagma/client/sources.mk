libmagma_client_sources = \
	libmagma/client/answers.cc \
	libmagma/client/attachments.h libmagma/client/attachments.cc \
	libmagma/client/beliefs.h \
	libmagma/client/client.h libmagma/client/client.cc \
	libmagma/client/client_impl.h libmagma/client/client_impl.cc \
	libmagma/client/completion.h libmagma/client/completion.cc \
	libmagma/client/content_io.h libmagma/client/content_io.cc \
	libmagma/client/delayed_names.h libmagma/client/delayed_names.cc \
	libmagma/client/directory_cache.h libmagma/client/directory_cache.cc \
	libmagma/client/file_table.h libmagma/client/file_table.cc \
	libmagma/client/host_link.h libmagma/client/host_link.cc \
	libmagma/client/id_map.h \
	libmagma/client/lanes.h \
	libmagma/client/links.h libmagma/client/links.cc \
	libmagma/client/listing.h libmagma/client/listing.cc \
	libmagma/client/local_opens.h libmagma/client/local_opens.cc \
	libmagma/client/own_locks.h libmagma/client/own_locks.cc \
	libmagma/client/paths.h libmagma/client/paths.cc \
	libmagma/client/paths_directory.cc libmagma/client/paths_file.cc \
	libmagma/client/profiles.h libmagma/client/profiles.cc \
	libmagma/client/reach.h \
	libmagma/client/requests.h libmagma/client/requests.cc \
	libmagma/client/requests_session.cc \
	libmagma/client/ring_stop.h libmagma/client/ring_stop.cc \
	libmagma/client/ring_words.h libmagma/client/ring_words.cc \
	libmagma/client/router.h libmagma/client/router.cc \
	libmagma/client/session.h libmagma/client/session.cc \
	libmagma/client/slab.h \
	libmagma/client/space.h libmagma/client/space.cc \
	libmagma/client/write_back.h libmagma/client/write_back.cc \
	libmagma/client/zeroing.h libmagma/client/zeroing.cc
