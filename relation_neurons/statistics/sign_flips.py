"""One-sided sign-flip tests of a family of effects over facts that its members share."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

N_FLIPS = 9_999
TOLERANCE = 1e-9
"""Sums that differ by less are equal."""


class FlipTest(NamedTuple):
    """P-values of `sign_flip_max_t`, one for each group.

    Attributes:
        p: Of the group alone.
        p_family: Corrected for all groups.
    """

    p: Float[ndarray, " group"]
    p_family: Float[ndarray, " group"]


def sign_flip_max_t(values: Float[ndarray, "unit group"], *, n_flips: int = N_FLIPS, seed: int = 0) -> FlipTest:
    """Test whether the mean of each group of a family lies above zero, by flipping the signs of units.

    A unit's sign is flipped in all groups at once, so that groups which ask the same facts stay as dependent as they
    are. Each group's sum is divided by the root of its sum of squares, which no flip changes. The correction is
    Westfall and Young's (1993) step-down max-T: a group is compared with the largest sum of those that are no further
    out.
    The test is exact where values are symmetric about zero, however heavy their tails.

    Args:
        values: One value for each unit and group, such as a fact's gain under a relation's neurons; 0 where a group
            does not have the unit.
        n_flips: Random flips beside the data themselves; all flips are counted where there are no more.
        seed: Seed of the random flips.
    """
    norms = np.sqrt((values**2).sum(axis=0))
    scaled = values / np.where(norms > 0, norms, 1.0)
    scaled = scaled[(scaled != 0).any(axis=1)]
    observed = scaled.sum(axis=0) - TOLERANCE
    flipped = _flips(len(scaled), n_flips, seed) @ scaled
    order = np.argsort(-observed, kind="stable")
    largest = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]
    p_family = np.empty(len(observed))
    p_family[order] = np.maximum.accumulate((largest >= observed[order]).mean(axis=0))
    return FlipTest((flipped >= observed).mean(axis=0), p_family)


def smallest_flip_p(n_units: int, n_flips: int = N_FLIPS) -> float:
    """The least p-value that a group with so many units can have: every one of them is positive."""
    return max(0.5**n_units, 1 / (1 + n_flips))


def _flips(n_units: int, n_flips: int, seed: int) -> Float[ndarray, "flip unit"]:
    """All flips, or none and many random ones."""
    if 2**n_units <= n_flips + 1:
        return np.array(list(itertools.product((1.0, -1.0), repeat=n_units))).reshape(2**n_units, n_units)
    random = np.random.default_rng(seed).integers(2, size=(n_flips, n_units)) * 2.0 - 1.0
    return np.vstack([np.ones((1, n_units)), random])
