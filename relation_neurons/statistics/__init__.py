"""Intervals, hypothesis tests and effects beside matched random controls."""
