"""Sentences on the three properties."""

import numpy as np
import pandas as pd

from relation_neurons.results import property_verdicts


def mechanism(*rows):
    names = ["ablated", "relation", "n", "contribution", "contribution_low", "contribution_high", "random"]
    return pd.DataFrame([("one", "other", *row, 0.0) for row in rows], columns=names)


def test_a_single_fact_is_no_pair_that_writes_most():
    lone, several = (1, -9.0, -np.inf, np.inf), (4, -2.0, -3.0, -1.0)
    (sentence,) = property_verdicts._mechanism(mechanism(lone, several))
    assert "in 1 of the 1 pairs with several listed facts. Most: one -> other -2.00 [-3.00, -1.00] logits" in sentence
    assert property_verdicts._mechanism(mechanism(lone)) == ()
