"""What an experiment found, and finished runs read back."""
