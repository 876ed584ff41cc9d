"""Confidence intervals, hypothesis tests, and effects compared with matched random controls."""
