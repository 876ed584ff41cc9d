"""Neuron sets: ranked, saved, and their matched random controls."""
