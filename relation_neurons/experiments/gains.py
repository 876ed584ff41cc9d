"""Facts that improve when another relation's neurons are ablated, tested in that direction only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from relation_neurons.errors import nearest, refuse
from relation_neurons.statistics.effects import CANNOT_BE_SHOWN, NOT_SHOWN, RISES
from relation_neurons.statistics.gain_test import gain_test
from relation_neurons.statistics.hypothesis_tests import POWER
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.statistics.power import LEVEL
from relation_neurons.statistics.sign_flips import smallest_flip_p

PAIR = ["ablated", "relation"]
FACT = [*PAIR, "unit"]
ARROW = "->"


def parse_pairs(pairs: Sequence[str], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs written as "ablated->asked"; without any, all pairs of different relations.

    Raises:
        RelationNeuronsError: Another text, a relation that the study does not have, or one relation twice.
    """
    if not pairs:
        return tuple((one, other) for one in names for other in names if one != other)
    found = []
    for text in pairs:
        ablated, arrow, asked = (part.strip() for part in text.partition(ARROW))
        if not arrow or ablated == asked:
            raise refuse(f"'{text}' is not a pair", expected=f"two relations such as '{names[0]}{ARROW}{names[-1]}'")
        for name in (ablated, asked):
            if name not in names:
                raise refuse(f"'{name}' of the pair '{text}' is not a relation here", expected=nearest(name, names))
        found.append((ablated, asked))
    return tuple(dict.fromkeys(found))


def gain_table(answers: pd.DataFrame, controls: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Test whether the facts of each pair gain log-probability, more than under matched random sets.

    A fact's gain is its change under the pair's neurons minus its mean change under their control sets. The test over
    facts is one-sided, by sign flips that all pairs share (`sign_flips.sign_flip_max_t`). It sees the sample of facts
    only, and any set of neurons moves facts in its own way. So a verdict needs the rank test against control sets as
    well, as in `effects.compare`, and a mean change above 0.

    Args:
        answers: Table of `Study.changes` with the label `ablated`, of other relations' facts.
        controls: The same for the control sets, numbered in the column `draw`; without rows, gains are the changes.
        seed: Of the bootstrap and of the flips.

    Returns:
        A row per pair: `ablated`, `relation`; `n` facts; `n_controls`; `effect`, the mean change in nats, and `random`,
        that under control sets; `gain` with `_low` and `_high` (95 % over facts); `higher`, facts with a gain above 0,
        and `turned_right`; `p_chance` to `p_bh`, from `gain_test.gain_test`; `smallest_p`, which `p_family` cannot fall
        below;
        `minimum_effect`, the gain shown with about 80 % power; and `verdict`: `rises`, `not shown` or `cannot be
        shown`.
    """
    facts = answers.groupby(FACT, sort=False)[["d_logprob", "d_correct"]].mean()
    draws = _draws(controls, facts.index)
    gains = facts["d_logprob"] - (draws.mean(axis=1) if draws.shape[1] else 0.0)
    groups = list(facts.groupby(PAIR, sort=False).indices.items())
    rows = [_row(facts.iloc[places], gains.iloc[places], draws.iloc[places], seed) for _, places in groups]
    labels = pd.DataFrame([pair for pair, _ in groups], columns=PAIR)
    tests = gain_test(
        _aligned(gains, labels),
        [row["effect"] for row in rows],
        [draws.iloc[places].to_numpy().mean(axis=0) for _, places in groups],
        seed=seed,
    )
    sizes = [(len(places), draws.shape[1]) for _, places in groups]
    tests["smallest_p"] = [max(smallest_flip_p(n), 1 / (1 + n_controls)) for n, n_controls in sizes]
    spreads = [float(gains.iloc[places].std()) for _, places in groups]
    tests["minimum_effect"] = _minimum_gains(tests, spreads, [n for n, _ in sizes])
    otherwise = np.where(tests["smallest_p"] >= LEVEL, CANNOT_BE_SHOWN, NOT_SHOWN)
    tests["verdict"] = np.where(tests["p_family"] < LEVEL, RISES, otherwise)
    return pd.concat([labels, pd.DataFrame(rows), tests.drop(columns=["critical", "p_chance_family"])], axis=1)


def _draws(controls: pd.DataFrame, facts: pd.Index) -> pd.DataFrame:
    """Each fact's change under every control set."""
    if controls.empty:
        return pd.DataFrame(index=facts)
    changes = controls.groupby([*FACT, "draw"], sort=False)["d_logprob"].mean().unstack("draw").reindex(facts)
    if changes.isna().any(axis=None):
        raise refuse("The control sets lack some facts of a pair", expected="the same facts")
    return changes


def _row(facts: pd.DataFrame, gains: pd.Series, draws: pd.DataFrame, seed: int) -> dict[str, Any]:
    return {
        "n": len(facts),
        "n_controls": draws.shape[1],
        "effect": float(facts["d_logprob"].mean()),
        "random": float(draws.to_numpy().mean()) if draws.shape[1] else np.nan,
        **mean_interval(gains.to_numpy(), seed=seed).columns("gain"),
        "higher": int((gains > 0).sum()),
        "turned_right": int((facts["d_correct"] > 0).sum()),
    }


def _aligned(gains: pd.Series, pairs: pd.DataFrame) -> Float[ndarray, "unit pair"]:
    """Gains with a row for each fact of any relation, 0 where a pair does not ask it."""
    table = gains.rename("gain").reset_index().assign(asked=gains.index.get_level_values("relation"))
    wide = table.pivot(index=["relation", "unit"], columns=["ablated", "asked"], values="gain").fillna(0.0)
    return np.asarray(wide[list(pairs.itertuples(index=False, name=None))].to_numpy())


def _minimum_gains(tests: pd.DataFrame, spreads: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """The gain that both tests detect with about 80 % power; infinite where one of them cannot."""
    least, ready = [], float(stats.norm.ppf(POWER))
    alone = float(stats.norm.isf(LEVEL / len(tests)))  # one-sided
    for row, spread, n in zip(tests.to_dict("records"), spreads, sizes, strict=True):
        error = spread / np.sqrt(n)
        needed = max((alone + ready) * error, row["critical"] + ready * np.sqrt(2) * error)
        least.append(needed if row["smallest_p"] < LEVEL else np.inf)
    return least
