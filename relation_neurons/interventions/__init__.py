"""What is written into which neurons, as data."""
