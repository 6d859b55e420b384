magmad_console_sources = \
	magmad/console/access.cc magmad/console/access.h \
	magmad/console/backend.h \
	magmad/console/commands.cc magmad/console/commands.h \
	magmad/console/console.cc magmad/console/console.h \
	magmad/console/file_commands.cc \
	magmad/console/gateway.cc magmad/console/gateway.h \
	magmad/console/key_gate.cc magmad/console/key_gate.h \
	magmad/console/ring_files.cc magmad/console/ring_files.h \
	magmad/console/ring_shutdown.cc magmad/console/ring_shutdown.h \
	magmad/console/session.cc magmad/console/session.h \
	magmad/console/telnet.cc magmad/console/telnet.h \
	magmad/console/text.cc magmad/console/text.h \
	magmad/console/user_names.cc magmad/console/user_names.h
