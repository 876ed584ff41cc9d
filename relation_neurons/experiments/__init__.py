"""Experiments: each module is a frozen config, composed calls and a table."""
