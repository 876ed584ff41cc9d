"""Recall, answers and perplexity, under any number of conditions."""
