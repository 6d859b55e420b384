mount_magma_sources =
mount_magma_main_sources =
