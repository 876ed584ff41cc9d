"""From facts to prompts to tokens, and the positives and negatives of each relation."""
