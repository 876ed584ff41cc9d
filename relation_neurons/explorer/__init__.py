"""A local web page on which to explore a finished run: neurons, their cards, and a basket of neurons to ablate."""
