"""Rules by which relevance goes back through a model, instead of its gradient: RelP (arXiv:2508.21258).

The model computes what it always does; only its derivative is another. Norms divide by a constant. Attention patterns
are constants. An activation function multiplies its input by the constant act(x) / x. Of a gated product each factor
passes on half.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.activations import ACT2FN

from relation_neurons.errors import refuse
from relation_neurons.models.hooked_model import Hook
from relation_neurons.models.types import HookedModel

NORMS = ("ln1", "ln1_post", "ln2", "ln2_post")
"""Norms of a layer, in the residual stream or at the end of a part; those of queries and keys are in the pattern."""


class RelevanceRules:
    """Hooks that change the derivative of a model, and the proof that they did."""

    def __init__(self, model: HookedModel) -> None:
        """Look up what the rules need.

        Raises:
            RelationNeuronsError: A model with experts, or whose norms, patterns or activation function are not hooked.
        """
        cfg = model.cfg
        name, act = f"Model '{cfg.model_name}'", str(getattr(cfg, "act_fn", None))
        if getattr(cfg, "num_experts", None) or act not in ACT2FN:
            found = "experts" if act in ACT2FN else f"the activation function '{act}'"
            raise refuse(f"{name} has {found}, for which there are no rules of relevance", do="use method 'gradient'")
        norms = [f"blocks.{layer}.{norm}" for layer in range(cfg.n_layers) for norm in NORMS] + ["ln_final"]
        self._scales = [f"{norm}.hook_scale" for norm in norms if f"{norm}.hook_scale" in model.hook_dict]
        self._patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in range(cfg.n_layers)]
        missing = [one for one in ("ln_final.hook_scale", *self._patterns) if one not in model.hook_dict]
        if missing:
            raise refuse(f"{name} has no hook '{missing[0]}' for the rules of relevance", do="use method 'gradient'")
        self._act: Callable[[Tensor], Tensor] = ACT2FN[act]
        self._model, self._gated, self._n_layers = name, bool(cfg.gated_mlp), int(cfg.n_layers)
        self._factors: dict[str, Tensor] = {}
        self._used: set[str] = set()

    @property
    def before(self) -> list[tuple[str, Hook]]:
        """Hooks that come before any other at their places, which see what the rules put there."""
        constants = [(name, partial(self._constant, name)) for name in (*self._scales, *self._patterns)]
        return [*constants, *((f"{mlp}.hook_post", partial(self._product, mlp)) for mlp in self._mlps)]

    @property
    def after(self) -> list[tuple[str, Hook]]:
        """Hooks that come after any other, to take what the model continues with."""
        inputs = ("hook_pre", "hook_pre_linear") if self._gated else ("hook_pre",)
        return [
            (name, partial(self._factor, name)) for mlp in self._mlps for name in (f"{mlp}.{one}" for one in inputs)
        ]

    @contextlib.contextmanager
    def proved(self) -> Iterator[None]:
        """A block of one pass and its derivative, in which every rule must take part.

        Raises:
            RelationNeuronsError: What a rule writes does not reach the model's output.
        """
        self._factors.clear()
        self._used.clear()
        with quiet():
            yield
        expected = [*self._scales, *self._patterns, *(f"{mlp}.hook_post" for mlp in self._mlps)]
        ignored = [name for name in expected if name not in self._used]
        if ignored:
            raise refuse(
                f"{self._model} does not use what the rules of relevance write at {ignored[0]}",
                do="use method 'gradient'",
            )

    @property
    def _mlps(self) -> list[str]:
        return [f"blocks.{layer}.mlp" for layer in range(self._n_layers)]

    def _constant(self, name: str, value: Tensor) -> Tensor:
        return self._watch(name, value.detach().requires_grad_())

    def _factor(self, name: str, value: Tensor) -> Tensor:
        self._factors[name] = value
        return value

    def _product(self, mlp: str, post: Float[Tensor, "row pos neuron"]) -> Tensor:
        gate = self._factors.pop(f"{mlp}.hook_pre")
        with torch.no_grad():
            activated = self._act(gate)
            slope = torch.where(gate == 0, 0, activated / gate)
        up = self._factors.pop(f"{mlp}.hook_pre_linear") if self._gated else None
        value = activated if up is None else activated * up
        if not torch.allclose(value[:, -1], post[:, -1], rtol=0.05, atol=1e-3):
            raise refuse(f"{self._model} computes {mlp} otherwise than its rule", do="use method 'gradient'")
        factors = (slope, gate) if up is None else (slope * up.detach() / 2, gate, activated / 2, up)
        return self._watch(f"{mlp}.hook_post", _Product.apply(post.detach(), *factors))

    def _watch(self, name: str, written: Tensor) -> Tensor:
        written.register_hook(lambda _: self._used.add(name))
        return written


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block in which a bridge does not warn of a hook that writes a norm's scale."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
        yield


class _Product(torch.autograd.Function):
    """A value whose derivative by each of some factors is given."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *slopes_and_factors: Tensor) -> Tensor:
        ctx.save_for_backward(*slopes_and_factors[::2])
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        by_factor = [part for slope in ctx.saved_tensors for part in (None, gradient * slope)]
        return (None, *by_factor)
