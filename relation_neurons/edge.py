"""The edge of the package: what users hand to its public names is checked, and refused in the package's own words.

Inside, modules call each other unchecked. A check costs some microseconds, whatever the size of arrays; of collections
every item's type is seen, at the speed of C.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, Union

import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides
from beartype.door import is_bearable
from jaxtyping import AbstractArray, jaxtyped

from relation_neurons.errors import RelationNeuronsError, nearest, refuse

Guarded = TypeVar("Guarded", bound=Callable[..., Any])

CONF = BeartypeConf(
    hint_overrides=BeartypeHintOverrides(
        {int: int | np.integer, float: float | int | np.floating | np.integer, bool: bool | np.bool_}
    )
)
"""Numbers of NumPy pass for Python's own, and whole numbers for others."""
MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")  # in front of names
MODEL = "a model from load_model"
TEXTS = (str, bytes)


class _Given(NamedTuple):
    """One argument: its name, what it is, and the annotation that it is to meet."""

    name: str
    value: object
    hint: Any


def guard(public: Any, name: str) -> Any:
    """Check what a public function or class is given.

    A function is wrapped, with its docstring and signature. A class stays the same object: its constructor and its
    public methods are wrapped in place, so that instances are equal, pickled and shown as before.

    Args:
        public: The function or class; an exception, and a tuple that checks its own fields, stay as they are.
        name: What users call it, such as `rn.recall`.

    Returns:
        The wrapped function, or the class.
    """
    if not isinstance(public, type):
        wrapped = checked(public, name)
        wrapped.__module__ = __package__  # where it can be found again, by pickle for one
        return wrapped
    if not issubclass(public, BaseException | tuple):
        _guard_class(public, name)
    return public


def checked(function: Guarded, name: str = "") -> Guarded:
    """Wrap a function so that arguments that do not meet its annotations are refused.

    Args:
        function: Any function with annotations; one whose parameter `model` is `Any` takes a model from `load_model`.
        name: What users call it; by default its own name.

    Returns:
        A function that raises `RelationNeuronsError` before anything happens.

    Example:
        >>> def double(number: int) -> int:
        ...     return 2 * number
        >>> checked(double)("2")
        Traceback (most recent call last):
        relation_neurons.errors.RelationNeuronsError: double: argument 'number' is '2' (a str). Expected: int. Do \
this: see help(double).
    """
    called, signature = name or function.__qualname__, inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        bound = _bind(signature, called, args, kwargs)
        _check(called, _given(signature, hints, bound))
        return function(*bound.args, **bound.kwargs)

    return typing.cast(Guarded, wrapper)


def check_fields(record: type[Any], name: str = "") -> type[Any]:
    """Let a dataclass check the types of its fields on construction, in place.

    Lists become tuples where the field is a tuple, and scalars of NumPy become Python's. Where a class refuses a value
    itself, its own words are used.
    """
    original, called = record.__init__, name or record.__qualname__
    signature, hints = inspect.signature(original), typing.get_type_hints(record, include_extras=True)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = _bind(signature, called, (self, *args), kwargs)
        for field, value in bound.arguments.items():
            if isinstance(value, list) and typing.get_origin(hints.get(field)) is tuple:
                bound.arguments[field] = tuple(value)
        try:
            _check(called, _given(signature, hints, bound))
        except RelationNeuronsError as refusal:
            _refuse_in_own_words(original, bound)
            raise refusal from None
        original(*bound.args, **bound.kwargs)

    record.__init__ = init  # type: ignore[misc]
    return record


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


def _guard_class(public: type[Any], name: str) -> None:
    if dataclasses.is_dataclass(public):
        check_fields(public, name)
    for label, member in list(vars(public).items()):
        if isinstance(member, classmethod) and not label.startswith("_"):
            setattr(public, label, classmethod(checked(member.__func__, f"{name}.{label}")))
        elif isinstance(member, types.FunctionType) and (
            not label.startswith("_") or (label == "__init__" and not dataclasses.is_dataclass(public))
        ):
            called = name if label == "__init__" else f"{name}.{label}"
            setattr(public, label, checked(member, called))


def _bind(
    signature: inspect.Signature, called: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """Arguments by parameter, scalars of NumPy made Python's."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        names = [one for one in signature.parameters if one not in ("self", "cls")]
        unknown = [one for one in kwargs if one not in names]
        expected = nearest(unknown[0], names) if unknown else f"{', '.join(names)}"
        raise refuse(f"{called}: {error}", expected=expected, do=_help(called)) from None
    for name, value in bound.arguments.items():
        if isinstance(value, np.generic):
            bound.arguments[name] = value.item()
    return bound


def _given(signature: inspect.Signature, hints: Mapping[str, Any], bound: inspect.BoundArguments) -> list[_Given]:
    found = []
    for name, value in bound.arguments.items():
        if name not in hints:
            continue
        hint, parameter = hints[name], signature.parameters[name]
        if hint is Any and name == "model":
            hint = None if value is None and parameter.default is None else MODEL
        if parameter.kind is parameter.VAR_POSITIONAL:
            found += [_Given(f"{name}[{number}]", one, hint) for number, one in enumerate(value)]
        elif parameter.kind is not parameter.VAR_KEYWORD:
            found.append(_Given(name, value, hint))
    return found


def _check(called: str, given: list[_Given]) -> None:
    with jaxtyped("context"):  # type: ignore[attr-defined]
        if all(map(_meets, given)):
            return
    for one in given:
        with jaxtyped("context"):  # type: ignore[attr-defined]
            if not _meets(one):
                found = f"{called}: argument '{one.name}' {_wrong(one)}"
                raise refuse(found, expected=_expected(one), do=_help(called))
    arrays = [one for one in given if hasattr(one.value, "shape")]
    raise refuse(
        f"{called}: the shapes do not fit together: " + "; ".join(f"{one.name} is {shown(one.value)}" for one in arrays),
        expected="; ".join(f"{one.name}: {_written(one.hint)}" for one in arrays),
        do=_help(called),
    )


def _meets(given: _Given) -> bool:
    """Whether an argument meets its annotation; a text is no collection of texts."""
    _, value, hint = given
    if hint == MODEL:
        return hasattr(value, "cfg") and hasattr(value, "hook_dict")
    if isinstance(value, TEXTS) and not _takes_text(hint):
        return False
    return is_bearable(value, hint, conf=CONF) and not _strangers(value, hint)


def _takes_text(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(map(_takes_text, typing.get_args(hint)))
    return not (isinstance(origin, type) and issubclass(origin, Iterable))


def _strangers(value: object, hint: Any) -> list[object]:
    """Of a collection, the first item of each type that is not of the annotated one; beartype looks at one item only."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        found = [_strangers(value, one) for one in inner if is_bearable(value, one, conf=CONF)]
        return min(found, key=len, default=[])
    if not isinstance(value, Collection) or isinstance(value, TEXTS) or not inner or not isinstance(origin, type):
        return []
    if issubclass(origin, Mapping) and isinstance(value, Mapping):
        return _strangers_in(value.keys(), inner[0]) + _strangers_in(value.values(), inner[1])
    return _strangers_in(value, inner[0]) if issubclass(origin, Iterable) and _is_uniform(origin, inner) else []


def _is_uniform(origin: type, inner: tuple[Any, ...]) -> bool:
    return len(inner) == 2 and inner[1] is Ellipsis if issubclass(origin, tuple) else len(inner) == 1


def _strangers_in(items: Collection[object], hint: Any) -> list[object]:
    one_of_each = dict(zip(map(type, items), items, strict=True))
    return [item for item in one_of_each.values() if not _meets(_Given("", item, hint))]


def _wrong(given: _Given) -> str:
    """What is wrong with an argument: an item of it, or all of it."""
    is_text = isinstance(given.value, TEXTS)
    strangers = [] if is_text or given.hint == MODEL else _strangers(given.value, given.hint)
    return f"holds {shown(strangers[0])}" if strangers else f"is {shown(given.value)}"


def _expected(given: _Given) -> str:
    options = [one for one in _alternatives(given.hint) if typing.get_origin(one) is Literal]
    if options and isinstance(given.value, str):
        return nearest(given.value, typing.get_args(options[0]))
    return _written(given.hint)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _written(hint: Any) -> str:
    """An annotation as it is written, without the names of modules."""
    if isinstance(hint, str):
        return hint
    alone = isinstance(hint, type) and typing.get_origin(hint) is None
    text = hint.__name__ if alone or _is_array(hint) else repr(hint)
    return MODULES.sub("", text).replace("'", '"').replace("NoneType", "None")


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _refuse_in_own_words(original: Callable[..., None], bound: inspect.BoundArguments) -> None:
    try:
        original(*bound.args, **bound.kwargs)
    except RelationNeuronsError:
        raise
    except Exception:  # what goes wrong inside says less than the annotation
        return


@functools.cache
def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlevel = 2
    return short


def _help(called: str) -> str:
    return f"see help({called})"
