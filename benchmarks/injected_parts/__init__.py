"""Parts of the benchmark of scorers on injected relations."""
