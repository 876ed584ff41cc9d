"""What an intervention writes into a neuron: a constant, a multiple of what was there, or a reference set's number.

Every value is one scale for what was there and one number to add for each neuron, fixed before any model runs, so that
what a prompt yields never depends on the other prompts in its batch.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import nearest, number_text, refuse
from relation_neurons.interventions.reference import Reference
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True)
class Value(ABC):
    """What is written: `scale` times what was there, plus a number for each neuron."""

    kind: ClassVar[str]

    @property
    def scale(self) -> float:
        """Factor of what was there; 0 replaces it."""
        return 0.0

    def numbers(self, neurons: NeuronSet) -> Float[ndarray, " neuron"]:
        """What is added, for each neuron of a set."""
        return np.zeros(len(neurons))

    def to_dict(self, neurons: NeuronSet) -> dict[str, Any]:
        """All of it as plain data, as far as these neurons need it."""
        return {"kind": self.kind} | {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


@validated
@dataclass(frozen=True)
class Zero(Value):
    """Ablate, the paper's intervention (section 4)."""

    kind: ClassVar[str] = "zero"


@validated
@dataclass(frozen=True)
class Constant(Value):
    """One number for all neurons."""

    number: float | int
    kind: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        _number("The number of Constant", self.number)

    @override
    def numbers(self, neurons: NeuronSet) -> Float[ndarray, " neuron"]:
        return np.full(len(neurons), float(self.number))


@validated
@dataclass(frozen=True)
class Scale(Value):
    """What was there times `alpha`: 0.5 dampens, 2 amplifies, -1 turns round."""

    alpha: float | int
    kind: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        _number("alpha of Scale", self.alpha)

    @property
    @override
    def scale(self) -> float:
        return float(self.alpha)


@dataclass(frozen=True, eq=False)
class _Referred(Value):
    """A value that reduces the prompts of a reference set to one number a neuron; make one with `over`."""

    reference: Reference

    @abstractmethod
    def _reduce(self, values: Float[ndarray, "prompt neuron"]) -> Float[ndarray, " neuron"]:
        """One number a neuron; a single row must come back as it is."""

    @override
    def numbers(self, neurons: NeuronSet) -> Float[ndarray, " neuron"]:
        return self._reduce(self.reference.at(neurons))

    @override
    def to_dict(self, neurons: NeuronSet) -> dict[str, Any]:
        options = {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "reference"}
        described = {"kind": self.kind, "reference": self.reference.name, "n": self.reference.n}
        return described | options | {"numbers": self.numbers(neurons).tolist()}


@validated
@dataclass(frozen=True, eq=False)
class Mean(_Referred):
    """Each neuron's mean over a reference set of prompts."""

    kind: ClassVar[str] = "mean"

    @classmethod
    def over(cls, activations: Activations, relation: str | None = None) -> Mean:
        """Take the means.

        Args:
            activations: Pooled activations of the reference prompts, at the site of the neurons.
            relation: Take this relation's prompts only.

        Raises:
            RelationNeuronsError: No such relation.
        """
        return cls(Reference.of(activations, relation))

    def _reduce(self, values: Float[ndarray, "prompt neuron"]) -> Float[ndarray, " neuron"]:
        return values.mean(axis=0)


@validated
@dataclass(frozen=True, eq=False)
class Quantile(_Referred):
    """Each neuron's quantile over a reference set, usually a relation's positive prompts.

    The median of the positives, written wherever the model reads, can induce what the neurons stand for (`on_p50` of
    self-conditioning, Suau et al. 2022).
    """

    p: float | int = 0.5
    kind: ClassVar[str] = "quantile"

    @classmethod
    def over(cls, activations: Activations, p: float | int = 0.5, relation: str | None = None) -> Quantile:
        """Take the quantiles, interpolated linearly.

        Args:
            activations: Pooled activations of the reference prompts, at the site of the neurons.
            p: 0 for the smallest, 0.5 for the median, 1 for the largest.
            relation: Take this relation's prompts only.

        Raises:
            RelationNeuronsError: p outside 0 to 1, or no such relation.
        """
        return cls(Reference.of(activations, relation), p)

    def __post_init__(self) -> None:
        if not 0 <= _number("p", self.p) <= 1:
            raise refuse(f"p is {number_text(self.p)}", expected="0 to 1")

    def _reduce(self, values: Float[ndarray, "prompt neuron"]) -> Float[ndarray, " neuron"]:
        return np.quantile(values, self.p, axis=0)


@validated
@dataclass(frozen=True, eq=False)
class Resample(_Referred):
    """What the neurons were on one other prompt, drawn from a reference set by a seed.

    All neurons take their values from the same prompt, and all rows of a batch the same values; several seeds, each
    in a condition of its own, give the distribution.
    """

    seed: int = 0
    kind: ClassVar[str] = "resample"

    @classmethod
    def over(cls, activations: Activations, seed: int = 0, relation: str | None = None) -> Resample:
        """Draw a prompt.

        Args:
            activations: Pooled activations of the reference prompts, at the site of the neurons.
            seed: Chooses the prompt.
            relation: Draw from this relation's prompts only.

        Raises:
            RelationNeuronsError: No such relation.
        """
        return cls(Reference.of(activations, relation), seed)

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, Integral) or self.seed < 0:
            raise refuse(f"The seed of Resample is {number_text(self.seed)}", expected="an integer of at least 0")

    def _reduce(self, values: Float[ndarray, "prompt neuron"]) -> Float[ndarray, " neuron"]:
        return values[np.random.default_rng(self.seed).integers(len(values))]


_KINDS: tuple[type[Any], ...] = (Zero, Constant, Scale, Mean, Quantile, Resample)
VALUES: Mapping[str, type[Any]] = {one.kind: one for one in _KINDS}
"""Kinds of value by name."""


def value_from_dict(content: Mapping[str, Any], neurons: NeuronSet) -> Value:
    """Read back what `to_dict` wrote for these neurons.

    Raises:
        RelationNeuronsError: An unknown kind, or fields that do not fit it.
    """
    given = dict(content)
    kind = str(given.pop("kind", None))
    if kind not in VALUES:
        raise refuse(f"'{kind}' is not a kind of value", expected=nearest(kind, VALUES))
    described = {field.name for field in fields(VALUES[kind])}
    referred = "reference" in described
    wanted = described | ({"n", "numbers"} if referred else set())
    if set(given) != wanted:
        raise refuse(f"A value of kind '{kind}' has the fields {sorted(given)}", expected=str(sorted(wanted)))
    numbers, name = given.pop("numbers", []), given.pop("reference", "")
    checked = {field: _number(f"'{field}' of a value '{kind}'", number) for field, number in given.items()}
    if not referred:
        return VALUES[kind](**checked)
    if not isinstance(name, str) or type(checked["n"]) is not int or checked["n"] < 1:
        raise refuse(f"The reference of a value of kind '{kind}' is {name!r} with n {checked['n']}")
    if not isinstance(numbers, list) or len(numbers) != len(neurons):
        raise refuse(f"A value of kind '{kind}' has no list of numbers for its neurons", expected=f"{len(neurons)}")
    numbers = [_number(f"A number of a value '{kind}'", number) for number in numbers]
    stored = torch.tensor([numbers], dtype=torch.float64)
    return VALUES[kind](Reference(name, int(checked.pop("n")), neurons, stored), **checked)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _number(what: str, number: Any) -> Any:
    is_number = isinstance(number, Real) and not isinstance(number, bool)
    if not is_number or not abs(number) <= sys.float_info.max:
        raise refuse(f"{what} is {number_text(number)}", expected="a finite number")
    return number
