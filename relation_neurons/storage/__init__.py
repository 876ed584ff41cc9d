"""Run folders, files written whole or not at all, and fingerprints of what results depend on."""
