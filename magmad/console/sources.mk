magmad_console_sources =
