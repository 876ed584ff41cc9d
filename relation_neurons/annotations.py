"""Whether values meet annotations, and what to say of those that do not."""

from __future__ import annotations

import functools
import re
import reprlib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Union

import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides
from beartype.door import is_bearable
from jaxtyping import AbstractArray

from relation_neurons.errors import nearest

NUMBERS: Any = BeartypeHintOverrides  # mypy takes it for no class
CONF = BeartypeConf(
    hint_overrides=NUMBERS(
        {int: int | np.integer, float: float | int | np.floating | np.integer, bool: bool | np.bool_}
    )
)
"""Numbers of NumPy pass for Python's own, and whole numbers for others."""
MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")  # in front of names
MODEL = "a model from load_model"
TEXTS = (str, bytes)
MOST_BITS = 4096
"""Of an integer; Python itself refuses to write down those of thousands of digits."""


class Given(NamedTuple):
    """One argument: its name, what it is, and the annotation that it is to meet."""

    name: str
    value: object
    hint: Any


def shown(value: object) -> str:
    """A value in a few words for a message; arrays by type and shape."""
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a {dtype} {'array' if kind == 'ndarray' else kind.lower()} of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool):
        return repr(value)
    try:
        text = _short().repr(value)
    except Exception:  # whatever a stranger's __repr__ raises, or a number too long to be written
        text = "something that cannot be shown"
    return f"{text} ({'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind})"


def meets(given: Given) -> bool:
    """Whether an argument meets its annotation; a text is no collection of texts."""
    _, value, hint = given
    if type(value) is hint and hint is not int:
        return True
    if hint == MODEL:
        return hasattr(value, "cfg") and hasattr(value, "hook_dict")
    if isinstance(value, TEXTS) and not _takes_text(hint):
        return False
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return False
    try:
        return is_bearable(value, hint, conf=CONF) and not _strangers(value, hint)
    except TypeError:  # a collection that cannot be counted, such as a tensor without axes
        return False


def _takes_text(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(map(_takes_text, typing.get_args(hint)))
    return not (isinstance(origin, type) and issubclass(origin, Iterable))


def _strangers(value: object, hint: Any) -> list[object]:
    """Of a collection, an item of each type that is not the annotated one; beartype looks at one item only."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        found = [_strangers(value, one) for one in inner if is_bearable(value, one, conf=CONF)]
        return min(found, key=len, default=[])
    if (
        not isinstance(value, Collection)
        or isinstance(value, TEXTS)
        or hasattr(value, "shape")
        or not inner
        or not isinstance(origin, type)
    ):
        return []
    if issubclass(origin, Mapping) and isinstance(value, Mapping):
        return _strangers_in(value.keys(), inner[0]) + _strangers_in(value.values(), inner[1])
    return _strangers_in(value, inner[0]) if issubclass(origin, Iterable) and _is_uniform(origin, inner) else []


def _is_uniform(origin: type, inner: tuple[Any, ...]) -> bool:
    return len(inner) == 2 and inner[1] is Ellipsis if issubclass(origin, tuple) else len(inner) == 1


def _strangers_in(items: Collection[object], hint: Any) -> list[object]:
    one_of_each = dict(zip(map(type, items), items, strict=True))
    return [item for item in one_of_each.values() if not meets(Given("", item, hint))]


def wrong(given: Given) -> str:
    """What is wrong with an argument: an item of it, or all of it."""
    is_text = isinstance(given.value, TEXTS)
    strangers = [] if is_text or given.hint == MODEL else _strangers(given.value, given.hint)
    return f"holds {shown(strangers[0])}" if strangers else f"is {shown(given.value)}"


def expected(given: Given) -> str:
    """What an argument should be; of several names, the nearest one first."""
    options = [one for one in _alternatives(given.hint) if typing.get_origin(one) is Literal]
    if options and isinstance(given.value, str):
        return nearest(given.value, typing.get_args(options[0]))
    return written(given.hint)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def written(hint: Any) -> str:
    """An annotation as it is written, without the names of modules."""
    if isinstance(hint, str):
        return hint
    alone = isinstance(hint, type) and typing.get_origin(hint) is None
    text = hint.__name__ if alone or _is_array(hint) else repr(hint)
    return MODULES.sub("", text).replace("'", '"').replace("NoneType", "None")


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


@functools.cache
def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlevel = 2
    return short
