"""Results of experiments, and readers of run folders."""
