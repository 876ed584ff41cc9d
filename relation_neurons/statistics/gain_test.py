"""Tests of a family of gains, in one direction: over facts, and against matched random sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.statistics.by_fact import LEAST_NATS
from relation_neurons.statistics.effects import larger_p
from relation_neurons.statistics.hypothesis_tests import adjust, control_test
from relation_neurons.statistics.power import LEVEL
from relation_neurons.statistics.sign_flips import N_FLIPS, sign_flip_max_t


def gain_test(
    gains: Float[ndarray, "unit pair"],
    effects: Sequence[float],
    draws: Sequence[Float[ndarray, " draw"]],
    *,
    n_flips: int = N_FLIPS,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether pairs of relations gain, both beyond chance over facts and beyond matched random sets.

    Args:
        gains: Of each fact, its change less its mean change under control sets; 0 where a pair does not ask the fact.
        effects: Mean change of each pair, in nats.
        draws: Mean change of the pair's facts under each control set.
        n_flips: As for `sign_flips.sign_flip_max_t`.
        seed: Of the flips.

    Returns:
        A row per pair: `p_chance` of the sign flips alone, `p_chance_family` after max-T over pairs; `p_random` of the
        rank test alone; `p`, the larger of both;
        `p_family`, the larger of both after max-T over pairs; `p_bh`, the larger after Benjamini and Hochberg's
        correction of the former and max-T of the latter, whose own p-values cannot be small enough for that; and
        `critical`, as of `hypothesis_tests.control_test`. `p`, `p_family` and `p_bh` are 1 where the mean
        change is not above both 0 and the control sets' mean, and NaN without control sets.
    """
    random = control_test(effects, draws, resolution=LEAST_NATS, level=LEVEL)
    chance = sign_flip_max_t(gains, n_flips=n_flips, seed=seed)
    means = np.asarray(effects, dtype=float)
    centres = np.array([values.mean() if len(values) else np.nan for values in draws])
    table = pd.DataFrame({"p_chance": chance.p, "p_chance_family": chance.p_family, "p_random": random.p})
    for name, over_facts, over_sets in (
        ("p", chance.p, random.p),
        ("p_family", chance.p_family, random.p_family),
        ("p_bh", adjust(chance.p, "benjamini-hochberg"), random.p_family),
    ):
        larger = larger_p(means, centres, over_facts, over_sets)
        table[name] = np.where((means <= 0) & np.isfinite(larger), 1.0, larger)
    return table.assign(critical=random.critical)
