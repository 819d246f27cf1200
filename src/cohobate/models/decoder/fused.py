"""Root mean square norm, rotary embedding and SwiGLU with their gradients by formula.

Written op by op, as in transformers, each makes autograd walk through memory a dozen times; on a CPU that costs as much
as the matrix products of a small model.
"""

from __future__ import annotations

from typing import Any

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Weight * x / sqrt(mean(x^2) + eps) over the last dimension; [N, d], or [N, heads, d] with one weight per head.

    Computed in float32; the result has the precision of `x`, but at least that of the weight (Zhang and Sennrich 2019).
    """
    x = x.to(torch.promote_types(x.dtype, weight.dtype))
    if torch.is_grad_enabled() and x.dtype == torch.float32:
        normed: torch.Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return normed
    normed = torch.rms_norm(x, x.shape[-1:], None, eps)
    return normed.mul_(weight)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of x [..., d] (Su et al. 2021).

    cos and sin broadcast to x and repeat their first half.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        rotated: torch.Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return rotated
    return _rotated(x, cos, sin, 1)


def swiglu(gate_up: torch.Tensor, up: torch.Tensor | None = None) -> torch.Tensor:
    """silu(gate) * up (Shazeer 2020), of [N, 2 * d] with the gate in the first half, or of gate and up [N, d]."""
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


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: int) -> torch.Tensor:
    half = x.shape[-1] // 2
    out, sin = x * cos, sin[..., :half]
    out[..., :half].addcmul_(x[..., half:], sin, value=-direction)
    out[..., half:].addcmul_(x[..., :half], sin, value=direction)
    return out


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
    """The gradient is rotated by the opposite angle."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradient, cos, sin, -1), None, None


class _SwiGLU(torch.autograd.Function):
    """Only the input is saved for the backward pass, which computes silu(gate) again."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        [gate_up] = ctx.saved_tensors
        of_input = torch.empty_like(gate_up)
        (gate, up), (of_gate, of_up) = gate_up.chunk(2, -1), of_input.chunk(2, -1)
        torch.mul(torch.nn.functional.silu(gate), gradient, out=of_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        return of_input
