"""From results to one page that works offline."""
