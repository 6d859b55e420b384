magmad_store_sources = \
	magmad/store/database.h magmad/store/database.cc \
	magmad/store/metadata_store.h magmad/store/metadata_store.cc \
	magmad/store/rows.h \
	magmad/store/sqlite_vfs.h magmad/store/sqlite_vfs.cc
