"""Run folders, atomic files, and fingerprints of everything that results depend on."""
