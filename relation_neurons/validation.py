"""What users hand to public functions and classes is checked against the annotations there.

`@validated` stands on each of them. beartype and jaxtyping decide whether a value meets its annotation, and what does
not is refused in the package's own error, before anything is done. A check costs some microseconds, whatever the size
of arrays; of collections the type of every item is seen, at the speed of C.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import reprlib
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import FunctionType, UnionType
from typing import Any, Literal, TypeVar, Union

import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides
from beartype.door import is_bearable
from jaxtyping import jaxtyped

from relation_neurons.errors import RelationNeuronsError, nearest, refuse, unusable

Public = TypeVar("Public", bound=Callable[..., Any])
NUMBERS = {int: int | np.integer, float: float | int | np.floating | np.integer, bool: bool | np.bool_}
CONF = BeartypeConf(hint_overrides=BeartypeHintOverrides(NUMBERS))  # type: ignore[operator]
"""Numbers of NumPy pass for Python's own, and whole numbers for others."""
MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")  # in front of names
WORDS = {"'": '"', "NoneType": "None", "HookedModel": "a model from load_model"}
"""What parts of an annotation are called in messages."""
TEXTS = (str, bytes)
MOST_BITS = 4096  # of an integer; Python itself refuses to write down those of thousands of digits
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 60, 60


def validated(public: Public) -> Public:
    """Let a function, or the constructor and public methods of a class, refuse what does not meet its annotations.

    Scalars of NumPy become Python's, and lists become tuples where the annotation is a tuple.

    Args:
        public: A function, or a class, which stays the same object. Where a dataclass refuses a value itself, its own
            words are used.

    Example:
        >>> @validated
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> double("2")
        Traceback (most recent call last):
        relation_neurons.errors.RelationNeuronsError: relation_neurons.validation.double: argument 'number' is '2' (a \
str). Expected: int. Do this: see help(relation_neurons.validation.double).
    """
    if not isinstance(public, type):
        return typing.cast(Public, _validated_function(public))
    for label, member in list(vars(public).items()):
        if label == "__init__":
            wrap = _validated_record if dataclasses.is_dataclass(public) else _validated_function
            setattr(public, label, wrap(member))
        elif isinstance(member, classmethod) and label[0] != "_":
            setattr(public, label, classmethod(_validated_function(member.__func__)))
        elif isinstance(member, FunctionType) and label[0] != "_":
            setattr(public, label, _validated_function(member))
    return public


def _validated_function(function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = _Parameters(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(args, kwargs)
        parameters.check(bound)
        try:
            return function(*bound.args, **bound.kwargs)
        except OSError as error:
            raise unusable(error) from error
        except UnicodeEncodeError as error:  # half a character, which no system and no file takes
            found = f"{parameters.called}: a text cannot be written ({error})"
            raise refuse(found, expected="text of whole characters") from error

    return wrapper


def _validated_record(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor of a dataclass."""
    parameters = _Parameters(init)

    def wrapper(*args: Any, **kwargs: Any) -> None:
        bound = parameters.bind(args, kwargs)
        try:
            parameters.check(bound)
        except RelationNeuronsError as refusal:
            try:
                init(*bound.args, **bound.kwargs)
            except RelationNeuronsError:  # the class's own words
                raise
            except Exception:  # what goes wrong inside says less than the annotation
                pass
            raise refusal from None
        init(*bound.args, **bound.kwargs)

    # By this the import hook of jaxtyping sees that the class is checked, and adds no check in front.
    return functools.update_wrapper(jaxtyped(wrapper, typechecker=None), init)


class _Parameters:
    """The parameters of a function; annotations are read at the first call, when all their names are defined."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.signature = function, inspect.signature(function)

    @functools.cached_property
    def called(self) -> str:
        """What users call the function, such as `rn.recall`."""
        name = self.function.__qualname__.removesuffix(".__init__")
        is_public = name.partition(".")[0] in getattr(sys.modules[__package__], "__all__", ())
        return f"rn.{name}" if is_public else f"{self.function.__module__}.{name}"

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """Arguments by parameter, scalars of NumPy made Python's and lists tuples where tuples are wanted."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            names = [name for name in self.signature.parameters if name not in ("self", "cls")]
            unknown = [name for name in kwargs if name not in names]
            options = nearest(unknown[0], names) if unknown else ", ".join(names)
            raise self._refusal(str(error), options) from None
        for name, value in bound.arguments.items():
            if isinstance(value, np.generic):
                bound.arguments[name] = value.item()
            elif type(value) is list and typing.get_origin(self.hints.get(name)) is tuple:
                bound.arguments[name] = tuple(value)
        return bound

    def check(self, bound: inspect.BoundArguments) -> None:
        """Refuse the first argument that does not meet its annotation, or arrays whose shapes do not fit together."""
        given = list(self._given(bound))
        arrays = [(name, value, hint) for name, value, hint in given if hasattr(value, "shape")]
        for name, value, hint in given:
            if not meets(value, hint):
                raise self._refusal(f"argument '{name}' {wrong(value, hint)}", expected(value, hint))
        if len(arrays) < 2:
            return
        with jaxtyped("context"):  # in which a name of an axis stands for one length
            if all(is_bearable(value, hint, conf=CONF) for _, value, hint in arrays):
                return
        shapes = "; ".join(f"{name} is {shown(value)}" for name, value, _ in arrays)
        wanted = "; ".join(f"{name}: {written(hint)}" for name, _, hint in arrays)
        raise self._refusal(f"the shapes do not fit together: {shapes}", wanted)

    def _refusal(self, found: str, expected: str) -> RelationNeuronsError:
        return refuse(f"{self.called}: {found}", expected=expected, do=f"see help({self.called})")

    def _given(self, bound: inspect.BoundArguments) -> Iterator[tuple[str, Any, Any]]:
        for name, value in bound.arguments.items():
            hint, parameter = self.hints.get(name, Any), self.signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                yield from ((f"{name}[{number}]", one, hint) for number, one in enumerate(value))
            elif parameter.kind is not parameter.VAR_KEYWORD and hint is not Any:
                yield name, value, hint


def meets(value: object, hint: Any) -> bool:
    """Whether a value meets an annotation; a text is not a collection of texts."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return False
    if type(value) is hint:
        return True
    if len(_alternatives(hint)) > 1:
        return any(meets(value, one) for one in _alternatives(hint))
    if isinstance(value, TEXTS) and _is_collection(hint):
        return False
    try:
        with jaxtyped("context"):  # whoever calls may have named other axes alike
            return is_bearable(value, hint, conf=CONF) and not any(True for _ in _strangers(value, hint))
    except TypeError:  # a collection that cannot be counted, such as a tensor without axes
        return False


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)


def _is_collection(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Iterable)


def _strangers(value: Any, hint: Any) -> Iterator[object]:
    """Of a collection, the items that do not belong in it, one of each type; beartype looks at a single item."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    is_sized = isinstance(value, Collection) and not isinstance(value, TEXTS) and not hasattr(value, "shape")
    if not is_sized or not _is_collection(hint) or not isinstance(value, origin):
        return
    parts = (value.keys(), value.values()) if issubclass(origin, Mapping) else (value,)
    if inner[len(parts) :] not in ((), (Ellipsis,)):
        return  # a tuple with an annotation for each item, all of which beartype looks at
    for items, item_hint in zip(parts, inner, strict=False):
        one_of_each = dict(zip(map(type, items), items, strict=True))
        yield from (item for item in one_of_each.values() if not meets(item, item_hint))


def wrong(value: object, hint: Any) -> str:
    """What is wrong with an argument: an item of it, or all of it."""
    strangers = [item for one in _alternatives(hint) for item in _strangers(value, one)]
    return f"holds {shown(strangers[0])}" if strangers else f"is {shown(value)}"


def expected(value: object, hint: Any) -> str:
    """What an argument should be; of several names, the nearest one first."""
    options = [one for one in _alternatives(hint) if typing.get_origin(one) is Literal]
    return nearest(value, typing.get_args(options[0])) if options and isinstance(value, str) else written(hint)


def shown(value: object) -> str:
    """A value in a few words for a message; arrays by type and shape."""
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a {dtype} {'array' if kind == 'ndarray' else kind.lower()} of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool):
        return repr(value)
    try:
        text = SHORT.repr(value)
    except Exception:  # whatever a stranger's __repr__ raises, or a number too long to be written
        text = "something that cannot be shown"
    return f"{text} ({'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind})"


def written(hint: Any) -> str:
    """An annotation as it is written, without the names of modules."""
    is_plain = isinstance(hint, type) and typing.get_origin(hint) is None
    text = MODULES.sub("", hint.__name__ if is_plain else repr(hint))
    for word, instead in WORDS.items():
        text = text.replace(word, instead)
    return text
