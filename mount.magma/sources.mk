# Everything but main.cc, for the unit tests.
mount_magma_sources = \
	mount.magma/coherence.h mount.magma/coherence.cc \
	mount.magma/filesystem.h mount.magma/filesystem.cc \
	mount.magma/fresh_listings.h \
	mount.magma/fuse_attr.cc \
	mount.magma/fuse_channel.h mount.magma/fuse_channel.cc \
	mount.magma/fuse_data.cc \
	mount.magma/fuse_dir.cc \
	mount.magma/fuse_lock.cc \
	mount.magma/fuse_name.cc \
	mount.magma/fuse_profiles.cc \
	mount.magma/fuse_xattr.cc \
	mount.magma/inode_table.h mount.magma/inode_table.cc \
	mount.magma/interrupts.h mount.magma/interrupts.cc \
	mount.magma/lookup_doubts.h mount.magma/lookup_doubts.cc \
	mount.magma/name_packs.h mount.magma/name_packs.cc \
	mount.magma/options.h mount.magma/options.cc \
	mount.magma/reply.h \
	mount.magma/ring_facts.h mount.magma/ring_facts.cc \
	mount.magma/seen_attrs.h
mount_magma_main_sources =
man_pages += mount.magma/mount.magma.8
