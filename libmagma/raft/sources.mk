libmagma_raft_sources = \
	libmagma/raft/events.cc \
	libmagma/raft/events.h \
	libmagma/raft/log.cc \
	libmagma/raft/log.h \
	libmagma/raft/messages.cc \
	libmagma/raft/messages.h \
	libmagma/raft/raft.cc \
	libmagma/raft/raft.h \
	libmagma/raft/raft_election.cc \
	libmagma/raft/raft_follower.cc \
	libmagma/raft/raft_leader.cc \
	libmagma/raft/raft_members.cc \
	libmagma/raft/store.h \
	libmagma/raft/types.h
