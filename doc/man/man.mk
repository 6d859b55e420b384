# Manual pages in this folder; mount.magma/sources.mk adds its own.
man_pages = doc/man/magma.1 doc/man/magma-protocol.7 doc/man/magmad.8
