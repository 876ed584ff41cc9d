"""Neuron sets from the files of others: LAPE's, expertise tables of ml-selfcond and lang_neuron, CSV and JSON."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.errors import reason, refuse, shortened
from relation_neurons.models.sites import Neuron, expand_site
from relation_neurons.neurons.module_names import place_of
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.validation import validated

LAPE_LANGUAGES = ("en", "zh", "fr", "es", "vi", "id", "ja")
"""Languages of the files that LAPE publishes, in order."""
EXPERTISE = ("layer", "unit", "ap")
"""Columns of an expertise table; `layer` is the name of a module."""
PLAIN = ("layer", "index")
ASIDE = "neurons"


@validated
def import_neurons(
    path: str | Path, *, site: str = "post", names: Sequence[str] = (), k: int | None = None
) -> dict[str, NeuronSet]:
    """Read neuron sets from a file of another program; nothing in it is executed or unpickled.

    Args:
        path: By its ending, one of

            - `.pth`, `.pt`: a list over languages of lists over layers of index tensors, as LAPE writes;
            - `.csv`, `.tsv`: an expertise table with the columns `layer` (the name of a module), `unit` and `ap`, whose
              best rows come first; or a table with the columns `layer` and `index` and, optionally, `site`, `name` and
              `score`;
            - `.json`: a list of pairs `[layer, index]` or of objects with `layer` and `index`, or such lists by name.
        site: Of neurons whose file names none; LAPE's neurons are at `post`.
        names: Of the sets of a `.pth` file; by default LAPE's seven languages if there are seven.
        k: Only the first k neurons of each set, in a table with scores the best.

    Returns:
        The sets by name; the sets of languages without neurons are left out.

    Raises:
        RelationNeuronsError: A file that cannot be read, of another layout, or without neurons.
    """
    path = Path(path)
    (simple,) = sites if len(sites := expand_site(site)) == 1 else ("",)
    if not simple:
        raise refuse(f"Site '{site}' stands for {', '.join(sites)}", expected="one simple site")
    if k is not None and k < 1:
        raise refuse(f"k is {k}", expected="at least 1")
    readers = {".pth": _lape, ".pt": _lape, ".csv": _table, ".tsv": _table, ".json": _json}
    if path.suffix.lower() not in readers:
        raise refuse(f"{path} is of no known kind", expected=f"a file that ends in {', '.join(readers)}")
    if not path.is_file():
        raise refuse(f"There is no file {path}", do="check the path")
    try:
        rows = readers[path.suffix.lower()](path, names)
    except OSError as error:
        raise refuse(f"{path} cannot be read ({reason(error)})", do="check the path and its permissions") from error
    return _sets(path, rows, simple, k)


def _sets(path: Path, rows: pd.DataFrame, site: str, k: int | None) -> dict[str, NeuronSet]:
    """Sets from rows of `name`, `site`, `layer`, `index` and `score`; missing sites are `site`."""
    sets = {}
    for name, part in rows.groupby("name", sort=False):
        scored = part["score"].notna().all()
        part = (part.sort_values("score", ascending=False, kind="stable") if scored else part).head(k or len(part))
        try:
            places = zip(part["site"].fillna(site), part["layer"], part["index"], strict=True)
            neurons = tuple(Neuron(str(where), _whole(layer), _whole(index)) for where, layer, index in places)
        except (TypeError, ValueError) as error:
            raise refuse(f"{path} has a layer or index that is no whole number ({error})") from error
        sets[str(name)] = NeuronSet(neurons, str(name), tuple(map(float, part["score"])) if scored else None)
    if not sets:
        raise refuse(f"{path} has no neurons", expected="at least one")
    return sets


def _whole(number: Any) -> int:
    if isinstance(number, bool) or int(number) != float(number) or int(number) < 0:
        raise ValueError(str(number))
    return int(number)


def _frame(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "site", "layer", "index", "score"])


def _lape(path: Path, names: Sequence[str]) -> pd.DataFrame:
    import torch

    expected = "a list over languages of lists over layers of one-dimensional index tensors, as LAPE writes"
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise refuse(f"{path} is not safe or not whole ({shortened(str(error).strip())})", expected=expected) from error
    whole = isinstance(held, list) and held and all(isinstance(layers, list) for layers in held)
    if not whole or not all(
        isinstance(one, torch.Tensor) and one.dim() == 1 and not one.is_floating_point()
        for part in held
        for one in part
    ):
        raise refuse(f"{path} has another layout", expected=expected)
    if len({len(layers) for layers in held}) > 1:
        raise refuse(
            f"{path} has {', '.join(str(len(one)) for one in held)} layers", expected="as many for each language"
        )
    names = names or (LAPE_LANGUAGES if len(held) == len(LAPE_LANGUAGES) else [f"set_{n}" for n in range(len(held))])
    if len(names) != len(held):
        raise refuse(f"{path} has {len(held)} sets and there are {len(names)} names", expected="a name for each")
    return _frame(
        [
            (name, None, layer, index, None)
            for name, layers in zip(names, held, strict=True)
            for layer, one in enumerate(layers)
            for index in one.tolist()
        ]
    )


def _table(path: Path, names: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep=None, engine="python", encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise refuse(f"{path} is not a table ({shortened(str(error))})", expected="CSV or TSV in UTF-8") from error
    if {*EXPERTISE} <= {*table.columns}:
        places = {name: place_of(str(name)) for name in table["layer"].unique()}
        of = table.get("concept", path.stem)
        site, layer = (table["layer"].map({name: place[n] for name, place in places.items()}) for n in (0, 1))
        return pd.DataFrame({"name": of, "site": site, "layer": layer, "index": table["unit"], "score": table["ap"]})
    if {*PLAIN} <= {*table.columns}:
        missing = {"name": path.stem, "site": None, "score": None}
        table = table.assign(**{column: value for column, value in missing.items() if column not in table})
        return table[["name", "site", "layer", "index", "score"]]
    raise refuse(
        f"{path} has the columns {shortened(', '.join(map(str, table.columns)))}",
        expected=f"{', '.join(PLAIN)}, or those of an expertise table, {', '.join(EXPERTISE)}",
    )


def _json(path: Path, names: Sequence[str]) -> pd.DataFrame:
    try:
        held = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise refuse(f"{path} is not JSON ({shortened(str(error))})") from error
    by_name = held if isinstance(held, dict) and not {*PLAIN} <= {*held} else {path.stem: held}
    rows = []
    for name, some in by_name.items():
        for one in some if isinstance(some, list) else [some]:
            if isinstance(one, Mapping) and {*PLAIN} <= {*one}:
                rows.append((one.get("name", name), one.get("site"), one["layer"], one["index"], one.get("score")))
            elif isinstance(one, list) and len(one) == 2:
                rows.append((name, None, *one, None))
            else:
                raise refuse(
                    f"{path} has {shortened(str(one))} for a neuron", expected="[layer, index], or an object with both"
                )
    return _frame(rows)
