"""Batches, caches, per-row patches, greedy decoding, and what memory they take."""
