"""Root mean square norm, rotary embedding and SwiGLU with their gradients by formula.

Written out op by op, as transformers does, autograd walks through memory a dozen times for each; on a processor that
costs as much as the matrix products of a small model.
"""

from __future__ import annotations

from typing import Any

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Weight * x / sqrt(mean(x^2) + eps) over the last dimension; [N, d], or [N, heads, d] with a weight a head.

    In float32 whatever the precision of `x`, which the result has.
    """
    if torch.is_grad_enabled() and x.dtype == torch.float32:
        normed: torch.Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return normed
    normed = torch.rms_norm(x, x.shape[-1:], None, eps)
    return normed.mul_(weight)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of x [..., d]; with cos and sin that broadcast to it and repeat their first half.

    (Su et al. 2021)
    """
    if torch.is_grad_enabled() and x.requires_grad:
        turned: torch.Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return turned
    return _turn(x, cos, sin, 1)


def swiglu(gate_up: torch.Tensor, up: torch.Tensor | None = None) -> torch.Tensor:
    """silu(gate) * up, of [N, 2 * d] with gate in the first half or of gate and up [N, d] (Shazeer 2020)."""
    if up is not None:
        return torch.nn.functional.silu(gate_up) * up
    if torch.is_grad_enabled() and gate_up.requires_grad:
        mixed: torch.Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
        return mixed
    gate, up = gate_up.chunk(2, -1)
    return torch.nn.functional.silu(gate).mul_(up)


def _inverse_root(x: torch.Tensor, eps: float) -> torch.Tensor:
    squares: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    return squares.div_(x.shape[-1]).add_(eps).rsqrt_()


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: int) -> torch.Tensor:
    half = x.shape[-1] // 2
    turned, sin = x * cos, sin[..., :half]
    turned[..., :half].addcmul_(x[..., half:], sin, value=-direction)
    turned[..., half:].addcmul_(x[..., :half], sin, value=direction)
    return turned


class _RMSNorm(torch.autograd.Function):
    """With n = x / rms: dx = (w dy - n mean(w dy n)) / rms, dw = sum dy n."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        inverse = _inverse_root(x, eps)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        product = gradient * normed
        of_weight = product.sum(0)
        along = (product @ weight)[..., None] if weight.ndim == 1 else product.mul_(weight).sum(-1, keepdim=True)
        along.mul_(-1 / normed.shape[-1])
        return (gradient * weight).addcmul_(normed, along).mul_(inverse), of_weight, None


class _Rotate(torch.autograd.Function):
    """The gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, -1), None, None


class _SwiGLU(torch.autograd.Function):
    """Only the input is kept; silu(gate) is computed again."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        [gate_up] = ctx.saved_tensors
        found = torch.empty_like(gate_up)
        (gate, up), (of_gate, of_up) = gate_up.chunk(2, -1), found.chunk(2, -1)
        torch.mul(torch.nn.functional.silu(gate), gradient, out=of_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        return found
