"""The gradient of an objective, chunk by chunk: one chunk of logits and one gradient of the head exist at a time.

The gradient of a chunk's loss with respect to its logits is carried to the hidden states and added to the head's
gradient at once. The backward pass only scales these gradients. Nothing is computed twice, and autograd never holds one
gradient of the head per chunk (the idea of fused linear cross-entropy: Hsu et al. 2024, "Liger Kernel"; here for any
objective).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cohobate.models.output_layer import OutputLayer

Terms = dict[str, torch.Tensor]
# Terms of the logits [n, V] (float32) of the tokens from `start` to `stop`.
Evaluate = Callable[[torch.Tensor, int, int], Terms]


def with_gradient(evaluate: Evaluate, head: Any, hidden: torch.Tensor, size: int) -> list[Terms]:
    """The terms of each `size` tokens of `hidden` [N, d]; the loss of the first chunk carries the gradient of all.

    This is right for a sum of the losses alone. Terms other than the loss are detached.
    """
    gradient: _LinearGradient | _AnyGradient
    linear = head.linear if isinstance(head, OutputLayer) else head
    gradient = _LinearGradient(head, linear, hidden) if type(linear) is torch.nn.Linear else _AnyGradient(head, hidden)
    chunks = []
    for start in range(0, len(hidden), size):
        terms = gradient.add(evaluate, start, min(start + size, len(hidden)))
        chunks.append({name: value.detach() for name, value in terms.items()})
    chunks[0]["loss"] = _WithGradients.apply(  # type: ignore[no-untyped-call]
        chunks[0]["loss"], gradient.sums, *gradient.tensors
    )
    return chunks


class _WithGradients(torch.autograd.Function):
    """A number whose gradients with respect to the inputs have been computed."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, gradients: list[torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("a loss in chunks can be propagated back once: its gradient is scaled in place")
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(gradient.mul_(scale.to(gradient.dtype)) for gradient in gradients)


class _Gradient:
    """tensors: those that need a gradient; sums: their gradients so far."""

    def __init__(self, head: Any, hidden: torch.Tensor) -> None:
        self.head, self.hidden = head, hidden
        parameters = list(head.parameters()) if hasattr(head, "parameters") else []
        self.tensors = [tensor for tensor in (hidden, *parameters) if tensor.requires_grad]
        self.sums = [torch.zeros_like(tensor) for tensor in self.tensors]

    def of(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        """The gradient of `tensor` so far, to add to; None if it needs none."""
        return next((total for own, total in zip(self.tensors, self.sums, strict=True) if own is tensor), None)


class _AnyGradient(_Gradient):
    """Through any head, by autograd."""

    def add(self, evaluate: Evaluate, start: int, stop: int) -> Terms:
        states = self.hidden[start:stop].detach().requires_grad_()
        with torch.enable_grad():
            terms = evaluate(self.head(states).float(), start, stop)
        if not self.tensors:
            return terms
        inputs = [states if tensor is self.hidden else tensor for tensor in self.tensors]
        gradients = torch.autograd.grad(terms["loss"], inputs, materialize_grads=True)
        for tensor, into, gradient in zip(self.tensors, self.sums, gradients, strict=True):
            (into[start:stop] if tensor is self.hidden else into).add_(gradient)
        return terms


class _LinearGradient(_Gradient):
    """Through a linear layer by its formula, in the precision that autocast sets; what follows it by autograd."""

    def __init__(self, head: Any, linear: torch.nn.Linear, hidden: torch.Tensor) -> None:
        super().__init__(head, hidden)
        self.linear, kind = linear, hidden.device.type
        self.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else linear.weight.dtype
        self.weight = linear.weight.detach().to(self.dtype)
        self.bias = None if linear.bias is None else linear.bias.detach().to(self.dtype)
        self.is_whole = head is linear or head.is_linear

    def add(self, evaluate: Evaluate, start: int, stop: int) -> Terms:
        states = self.hidden[start:stop].detach().to(self.dtype)
        products = torch.nn.functional.linear(states, self.weight, self.bias)
        products = (products.float() if self.is_whole else products).requires_grad_()
        with torch.enable_grad():
            logits = products if self.is_whole else self.head.after_linear(products).float()
            terms = evaluate(logits, start, stop)
        [gradient] = torch.autograd.grad(terms["loss"], [products], materialize_grads=True)
        self._carry(gradient.to(self.dtype), states, start, stop)
        return terms

    def _carry(self, gradient: torch.Tensor, states: torch.Tensor, start: int, stop: int) -> None:
        hidden, weight, bias = (self.of(t) for t in (self.hidden, self.linear.weight, self.linear.bias))
        if hidden is not None:
            hidden[start:stop] = gradient @ self.weight
        if weight is not None and weight.dtype == self.dtype:
            weight.addmm_(gradient.T, states)
        elif weight is not None:
            weight += gradient.T @ states
        if bias is not None:
            bias += gradient.sum(0)
