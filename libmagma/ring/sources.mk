libmagma_ring_sources = \
	libmagma/ring/key.cc \
	libmagma/ring/key.h \
	libmagma/ring/slice.h \
	libmagma/ring/slot.h
