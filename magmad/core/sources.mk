magmad_core_sources =
