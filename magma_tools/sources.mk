magma_tools_sources =
magma_tools_main_sources =
