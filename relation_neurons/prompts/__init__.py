"""Prompts from facts, their tokens, and the positives and negatives of each relation."""
