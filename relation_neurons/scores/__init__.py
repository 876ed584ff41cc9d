"""From pooled activations to scores: pure functions of arrays."""
