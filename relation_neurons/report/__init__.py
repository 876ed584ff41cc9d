"""Render results as one page that works offline."""
