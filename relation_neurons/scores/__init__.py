"""Scores of neurons for relations, as pure functions of pooled activations."""
