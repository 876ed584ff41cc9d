"""Neuron sets: ranking, saving, and matched random controls."""
