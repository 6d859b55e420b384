magmad_core_sources = \
	magmad/core/coordinator.cc \
	magmad/core/coordinator.h \
	magmad/core/mirror_rules.cc \
	magmad/core/mirror_rules.h \
	magmad/core/slot_rules.cc \
	magmad/core/slot_rules.h \
	magmad/core/tenure_rules.cc \
	magmad/core/tenure_rules.h \
	magmad/core/voter_rules.cc \
	magmad/core/voter_rules.h
