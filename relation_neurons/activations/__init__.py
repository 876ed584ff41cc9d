"""One pass over prompts, pooled in hooks, kept in shards."""
