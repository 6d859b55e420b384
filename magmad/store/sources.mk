magmad_store_sources = \
	magmad/store/content_files.h magmad/store/content_files.cc \
	magmad/store/content_read.cc \
	magmad/store/content_recovery.cc \
	magmad/store/content_store.h magmad/store/content_store.cc \
	magmad/store/content_store_impl.h \
	magmad/store/content_sweep.cc \
	magmad/store/content_sync.cc \
	magmad/store/database.h magmad/store/database.cc \
	magmad/store/fsck.h magmad/store/fsck.cc \
	magmad/store/fsck_parts.cc magmad/store/fsck_relations.cc magmad/store/fsck_state.h \
	magmad/store/metadata_store.h magmad/store/metadata_store.cc \
	magmad/store/page_sums.h magmad/store/page_sums.cc \
	magmad/store/raft_store.h magmad/store/raft_store.cc \
	magmad/store/read_ahead.h magmad/store/read_ahead.cc \
	magmad/store/rows.h \
	magmad/store/sqlite_vfs.h magmad/store/sqlite_vfs.cc \
	magmad/store/storage_dir.h magmad/store/storage_dir.cc
