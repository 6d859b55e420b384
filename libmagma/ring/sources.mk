libmagma_ring_sources = \
	libmagma/ring/key.cc \
	libmagma/ring/key.h \
	libmagma/ring/lava_check.cc \
	libmagma/ring/lava_map.cc \
	libmagma/ring/lava_map.h \
	libmagma/ring/map_apply.cc \
	libmagma/ring/map_commands.def \
	libmagma/ring/map_commands.h \
	libmagma/ring/map_slot_steps.cc \
	libmagma/ring/map_slot_steps.h \
	libmagma/ring/placement.cc \
	libmagma/ring/placement.h \
	libmagma/ring/placement_plans.cc \
	libmagma/ring/placement_share.cc \
	libmagma/ring/placement_share.h \
	libmagma/ring/profile_rules.cc \
	libmagma/ring/profile_rules.h \
	libmagma/ring/progress.cc \
	libmagma/ring/progress.h \
	libmagma/ring/slice.h \
	libmagma/ring/slot.h \
	libmagma/ring/slot_mask.cc \
	libmagma/ring/slot_mask.h
