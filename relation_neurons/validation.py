"""The edge of the package: what users hand to its public names is checked, and refused in the package's own words.

Inside, modules call each other unchecked. A check costs some microseconds, whatever the size of arrays; of collections
every item's type is seen, at the speed of C.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from beartype.door import is_bearable
from jaxtyping import jaxtyped

from relation_neurons.annotations import CONF, MODEL, Given, expected, meets, shown, written, wrong
from relation_neurons.errors import RelationNeuronsError, nearest, refuse, unusable

Guarded = TypeVar("Guarded", bound=Callable[..., Any])


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
    if not issubclass(public, BaseException):
        _guard_class(public, name)
    return public


def checked(function: Guarded, name: str = "") -> Guarded:
    """Wrap a function so that arguments that do not meet its annotations are refused.

    Args:
        function: Any function with annotations; one whose `model` is a `HookedModel` takes a model from `load_model`.
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
        try:
            return function(*bound.args, **bound.kwargs)
        except OSError as error:
            raise unusable(error) from error
        except UnicodeEncodeError as error:  # half a character, which no system and no file takes
            raise refuse(
                f"{called}: a text cannot be written ({error})", expected="text of whole characters"
            ) from error

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

    record.__init__ = init
    return record


def _guard_class(public: type[Any], name: str) -> None:
    if dataclasses.is_dataclass(public):
        check_fields(public, name)
    for label, member in list(vars(public).items()):
        if isinstance(member, classmethod) and not label.startswith("_"):
            setattr(public, label, classmethod(checked(member.__func__, f"{name}.{label}")))
        elif isinstance(member, types.FunctionType) and not label.startswith("_"):
            setattr(public, label, checked(member, f"{name}.{label}"))
        elif label == "__init__" and not dataclasses.is_dataclass(public):
            setattr(public, label, checked(member, name))


def _bind(
    signature: inspect.Signature, called: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """Arguments by parameter, scalars of NumPy made Python's."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        names = [one for one in signature.parameters if one not in ("self", "cls")]
        unknown = [one for one in kwargs if one not in names]
        options = nearest(unknown[0], names) if unknown else ", ".join(names)
        raise refuse(f"{called}: {error}", expected=options, do=_help(called)) from None
    for name, value in bound.arguments.items():
        if isinstance(value, np.generic):
            bound.arguments[name] = value.item()
    return bound


def _given(signature: inspect.Signature, hints: Mapping[str, Any], bound: inspect.BoundArguments) -> list[Given]:
    found = []
    for name, value in bound.arguments.items():
        if name not in hints:
            continue
        hint, parameter = hints[name], signature.parameters[name]
        if name == "model" and "HookedModel" in str(hint):
            hint = None if value is None and parameter.default is None else MODEL
        if parameter.kind is parameter.VAR_POSITIONAL:
            found += [Given(f"{name}[{number}]", one, hint) for number, one in enumerate(value)]
        elif parameter.kind is not parameter.VAR_KEYWORD:
            found.append(Given(name, value, hint))
    return found


def _check(called: str, given: list[Given]) -> None:
    for one in given:
        if not meets(one):
            found = f"{called}: argument '{one.name}' {wrong(one)}"
            raise refuse(found, expected=expected(one), do=_help(called))
    arrays = [one for one in given if hasattr(one.value, "shape")]
    if len(arrays) < 2:
        return
    with jaxtyped("context"):  # in which a name of an axis stands for one length
        if all(is_bearable(one.value, one.hint, conf=CONF) for one in arrays):
            return
    shapes = "; ".join(f"{one.name} is {shown(one.value)}" for one in arrays)
    raise refuse(
        f"{called}: the shapes do not fit together: {shapes}",
        expected="; ".join(f"{one.name}: {written(one.hint)}" for one in arrays),
        do=_help(called),
    )


def _refuse_in_own_words(original: Callable[..., None], bound: inspect.BoundArguments) -> None:
    try:
        original(*bound.args, **bound.kwargs)
    except RelationNeuronsError:
        raise
    except Exception:  # what goes wrong inside says less than the annotation
        return


def _help(called: str) -> str:
    return f"see help({called})"
