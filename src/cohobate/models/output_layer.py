"""From last hidden states to logits, by the model's own rule: the one place that does it.

Many families do more than multiply by the weights of the head: Granite and Cohere scale the logits, Gemma 2 caps them,
MiniCPM divides the hidden states. All of this is code of the model's class behind its decoder. So that code itself is
run, with a decoder that returns the given hidden states: whatever the class does there, of a family that is known here
or not, is done. Where a trial shows that this comes to the head alone, the head alone is called.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensor
from transformers.modeling_outputs import BaseModelOutputWithPast

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import ModelShape
from cohobate.core.sanitize import first_line
from cohobate.models.decoder_module import decoder_module

# Positions of the trial, and the largest of its logits: a cap that does nothing to these does nothing to any.
_TRIED, _LARGEST = 4, 1e4


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have the same values; of tensors without elements, whether they are the same memory."""
    if isinstance(a, FakeTensor) or a.is_meta:
        return bool(a.untyped_storage()._cdata == b.untyped_storage()._cdata)
    return torch.equal(a.float(), b.float())


class OutputLayer:
    """The output layer of a causal language model, with the weights that the model has when it is called.

    vocabulary: the number of logits per token, V. linear_first: whether the hidden states go into the head as they are.
    is_linear: whether the head's outputs are the logits as they are, too.

    Raises ModelError where the model's class does not compute its logits from what its decoder returns.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.linear_first = self.is_linear = False
        self._learning: list[str] | None = None
        self.vocabulary = self._try()

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [N, V] of hidden states [N, d], in the precision in which the model computes them."""
        if self.is_linear:
            logits: torch.Tensor = self._head()(hidden)
            return logits
        return self._run(hidden, None)

    @property
    def linear(self) -> nn.Linear | None:
        """The linear layer that the hidden states go into, if only its weights learn; else None."""
        head = self._head()
        if not self.linear_first or type(head) is not nn.Linear:
            return None
        own = {id(parameter) for parameter in head.parameters()}
        return head if all(id(parameter) in own for parameter in self.parameters()) else None

    def after_linear(self, products: torch.Tensor) -> torch.Tensor:
        """Logits [N, V] of the outputs [N, V] of `linear`."""
        if self.is_linear:
            return products
        stub = _Stub(self._head(), lambda states: products[None])
        return self._run(products.new_zeros(len(products), 1), stub)

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of which logits are a function, besides the hidden states."""
        if self.is_linear:
            return list(self._head().parameters())
        named = dict(self.model.named_parameters())
        if self._learning is None:
            self._learning = self._differentiated(named)
        return [named[name] for name in self._learning]

    def _differentiated(self, named: dict[str, nn.Parameter]) -> list[str]:
        """The names of those parameters whose change would change the logits."""
        learning = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
        if not learning:
            return []
        with torch.enable_grad():
            total = self(self._zeros(1)).float().sum()
        gradients = torch.autograd.grad(total, list(learning.values()), allow_unused=True)
        return [name for name, gradient in zip(learning, gradients, strict=True) if gradient is not None]

    def _try(self) -> int:
        """Find out what the class does before and behind the head; the size of the vocabulary."""
        try:
            with torch.no_grad():
                return self._trial()
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            why = first_line(error)
            raise ModelError(f"the output layer of {type(self.model).__name__} cannot be run alone: {why}") from error

    def _trial(self) -> int:
        weight = getattr(self._head(), "weight", None)
        if weight is None:
            return int(self(self._zeros(1)).shape[-1])
        given = self._zeros(_TRIED)
        given += torch.arange(_TRIED, device=given.device)[:, None] + 1
        products = torch.linspace(-_LARGEST, _LARGEST, _TRIED * len(weight), device=given.device, dtype=given.dtype)
        products = products.view(_TRIED, -1)
        received: list[torch.Tensor] = []

        def head(states: torch.Tensor) -> torch.Tensor:
            received.append(states)
            return products.view(*states.shape[:-1], -1)

        logits = self._run(given, _Stub(self._head(), head))
        if len(received) == 1:
            self.linear_first = _same(received[0].flatten(0, -2), given)
            self.is_linear = self.linear_first and _same(logits, products)
        return int(logits.shape[-1])

    def _zeros(self, count: int) -> torch.Tensor:
        embeddings = self.model.get_input_embeddings()
        width = getattr(self._head(), "in_features", None) or ModelShape.of(self.model.config).width
        return torch.zeros(count, width, device=embeddings.weight.device, dtype=self.model.dtype)

    def _head(self) -> Any:
        return self.model.get_output_embeddings()

    def _run(self, hidden: torch.Tensor, head: _Stub | None) -> torch.Tensor:
        """The model's forward pass over a decoder that returns `hidden` [N, d]; head: in place of its head."""
        if not len(hidden):
            return hidden[:, :1].expand(-1, self.vocabulary)
        calls: list[int] = []

        def decoder(*args: Any, **kwargs: Any) -> _States:
            calls.append(1)
            return _States(last_hidden_state=hidden[None])

        apart = self._apart(_Stub(decoder_module(self.model), decoder), head)
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        logits: torch.Tensor = apart(input_ids=ids, use_cache=False).logits
        if not calls:
            raise ModelError(f"{type(self.model).__name__} does not compute its logits from its decoder's states")
        return logits[0]

    def _apart(self, decoder: _Stub, head: _Stub | None) -> Any:
        """The model with these in place of its decoder and of its head; all else is the model's own, and shared."""
        own = decoder_module(self.model)
        apart = None if own is self.model else _with_replaced(self.model, own, decoder)
        if apart is None:
            raise ModelError(f"{type(self.model).__name__} does not tell its decoder from its output layer")
        return apart if head is None else _with_replaced(apart, self._head(), head) or apart


class _States(BaseModelOutputWithPast):  # type: ignore[misc]
    """What a decoder returns, of which only the last hidden states are there: any other field is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Stub(nn.Module):
    """Calls `call` in place of `module`, whose attributes it has."""

    def __init__(self, module: Any, call: Callable[..., Any]) -> None:
        super().__init__()
        self.__dict__["module"] = module  # not a child: its parameters are none of the stub's
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["module"], name)


def _with_replaced(module: Any, old: Any, new: nn.Module) -> Any:
    """A copy of `module` in eval mode, with `new` in place of `old` and everything else shared; None without `old`."""
    if module is old:
        return new
    for name, child in module._modules.items():
        replaced = None if child is None else _with_replaced(child, old, new)
        if replaced is not None:
            copied = copy.copy(module)
            copied.__dict__ |= {"_modules": {**module._modules, name: replaced}, "training": False}
            return copied
    return None
