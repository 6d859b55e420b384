magmad_node_sources = \
	magmad/node/copy_progress.cc \
	magmad/node/copy_progress.h \
	magmad/node/joining.cc \
	magmad/node/joining.h \
	magmad/node/links.cc \
	magmad/node/links.h \
	magmad/node/node.cc \
	magmad/node/node.h \
	magmad/node/node_coordinator.cc \
	magmad/node/ring_view.cc \
	magmad/node/ring_view.h
