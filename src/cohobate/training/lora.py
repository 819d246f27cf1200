"""LoRA adapters (Hu et al. 2021): put into the student in place, and merged into copies of its weights.

Rollouts, scoring and updates all use the adapted weights. The merged model, which loads anywhere, is published with the
adapter beside it.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from cohobate.config import Training
from cohobate.core.errors import UserError
from cohobate.core.model_shape import ModelShape
from cohobate.core.sanitize import first_line
from cohobate.models.batching import can_share

# In these peft refuses layers whose weights a fused kernel reads past the adapter.
_FUSED = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
_PROBE = 8  # tokens of the pass that shows which layers are called
# A trial of the merged weights: the scale of its adapters, and how far log-probabilities may be apart, in nats.
_SCALE, _APART, _HALF_APART = 0.02, 1e-3, 0.1
_OTHERS = "name other layers in lora.targets, such as ['q_proj', 'v_proj'], or train without lora"


@torch.no_grad()
def full_weights(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Copies of the weights of `model` on the CPU in `dtype`, by the names that its checkpoint has.

    LoRA adapters are merged into them; a tensor with two names, such as a tied output layer, has one.
    """
    adapted: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            adapted.setdefault(f"{_bare(name)}.{getattr(module, 'parameter_name', 'weight')}", []).append(module)
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        value = parameter
        for layer in adapted.get(_bare(name), ()):
            value = value.float() + layer.get_delta_weight("default")
        weights[_bare(name)] = value.detach().to("cpu", dtype, copy=True).contiguous()
    return weights


def _bare(name: str) -> str:
    """The name that a module or a parameter had before adapters were put around it, one for each adapted tensor."""
    return name.replace(".base_layer", "")


def with_lora(model: Any, config: Training, base: str) -> Any:
    """`model` with the adapters of `config.lora`; base: the base model's name in the adapter's configuration.

    Raises UserError where LoRA is not installed or does not fit the student.
    """
    try:
        import peft
    except ImportError:
        raise UserError("LoRA needs the package peft; install it with `pip install 'cohobate[lora]'`") from None

    lora = config.lora
    assert lora is not None
    torch.manual_seed(config.seed)
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        exclude_modules=None if lora.targets else _unfit(model) or None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    try:
        with warnings.catch_warnings():
            # Of names that transformers deprecates, and of the base's name, which is set below.
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, settings)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"LoRA does not fit the student: {first_line(error)}") from None
    _refuse_tied(model)
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


@torch.no_grad()
def hold_in_half(model: Any) -> None:
    """Hold the frozen weights under the adapters in bfloat16, in which autocast multiplies by them anyway.

    No product changes, half of their memory is free, and no pass has to cast them. Only for models that this program's
    own decoder samples, which merges the adapters in float32: the module of another model multiplies by its weights as
    they are, outside of autocast too. Weights that bfloat16 would round stay as they are.
    """
    model.eval()
    if not can_share(model):
        return
    for module in model.modules():
        base = getattr(module, "base_layer", None)
        if type(base) is torch.nn.Linear and _is_exact(base.weight):
            base.weight.data = base.weight.data.bfloat16()


def _is_exact(weight: torch.Tensor) -> bool:
    """Whether bfloat16 holds every value of a float32 weight; so it is taken in an estimate, which has no values."""
    if weight.device.type == "meta":
        return True
    return torch.equal(weight, weight.bfloat16().float())


def unadapted_experts(model: Any) -> int:
    """The number of weights of experts, of a mixture that learns by adapters, that have none and stay as they are."""
    adapted = {_bare(name).rpartition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if ".lora_" not in name
        and ".experts." in name
        and not any(_bare(name).startswith(f"{module}.") for module in adapted)
    )


@torch.no_grad()
def require_mergeable(peft_model: Any, model: Any) -> None:
    """Raise UserError where adapters merged into the weights are another model than the one that is trained.

    Some layers are never called: the model reads their weights itself, so that an adapter does nothing until it is
    merged. `peft_model`, which holds `model`, is unusable afterwards.
    """
    for name, parameter in model.named_parameters():
        if ".lora_B" in name:
            parameter.normal_(0, _SCALE)
    try:
        trained = _logprobs(model)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise UserError(
            f"LoRA does not fit these layers of {type(model).__name__} ({first_line(error)}); {_OTHERS}"
        ) from None
    merged = _logprobs(peft_model.merge_and_unload())
    apart = (trained - merged).abs()
    exact = model.dtype == torch.float32
    if not float(apart.max() if exact else apart.mean()) <= (_APART if exact else _HALF_APART):
        raise UserError(
            f"LoRA on these layers of {type(model).__name__} would be trained as one model and published as another "
            f"({float(apart.max()):.2g} nats per token apart once merged); {_OTHERS}"
        )


def _logprobs(model: Any) -> torch.Tensor:
    logits = model(input_ids=_probe(model), use_cache=False).logits
    logprobs: torch.Tensor = logits.float().log_softmax(-1)
    return logprobs


def _probe(model: Any) -> torch.Tensor:
    ids = torch.arange(1, _PROBE + 1) % ModelShape.of(model.config).vocabulary
    return ids[None].to(model.device)


@torch.no_grad()
def _unfit(model: Any) -> list[str]:
    """The linear layers that cannot have an adapter, by their full names.

    That is a kind of layer none of which is called (the tower of images of a model that is asked in text, weights that
    a model reads itself), or which gives more or other than the product with its weights (DeepSeek V4 has one that
    multiplies each group of heads by a part of them).
    """
    if model.device.type == "meta":  # nothing can be called without weights; an estimate takes all for fit
        return []
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    fit: set[str] = set()

    def note(name: str) -> Any:
        return lambda module, args, output: fit.add(name) if _is_product(module, args, output) else None

    hooks = [module.register_forward_hook(note(name)) for name, module in linear.items()]
    was_training = model.training
    try:
        model.eval()(input_ids=_probe(model), use_cache=False)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    kinds = {name: _kind(name) for name in linear}
    good = {kinds[name] for name in fit}
    unfit = [name for name in linear if kinds[name] not in good]
    fused = model.config.model_type in _FUSED
    unfit += [name for name in linear if fused and name.endswith("out_proj") and name not in unfit]
    return unfit


def _is_product(layer: torch.nn.Linear, given: tuple[torch.Tensor, ...], output: Any) -> bool:
    """Whether a layer's output has the shape of a product of its weights with all that it is given."""
    rows = given[0].shape[:-1] if given else output.shape[:-1]
    return torch.is_tensor(output) and output.shape == (*rows, layer.out_features)


def _kind(name: str) -> str:
    """The name without its numbers: layers of one kind have the same, and the experts of a list too."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


def _refuse_tied(model: Any) -> None:
    """Raise UserError where one of two tied layers has an adapter: merged, it would change the other one too."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    weights = [getattr(getattr(layer, "base_layer", layer), "weight", None) for layer in (embedding, head)]
    if weights[0] is None or weights[0] is not weights[1]:
        return
    for name, layer in (("embedding", embedding), ("output layer", head)):
        if hasattr(layer, "base_layer"):
            raise UserError(
                f"lora.targets names the student's {name}, but embedding and output layer are one tensor in it (tied), "
                "so that the adapter, once merged, would change both; leave it out of lora.targets"
            )
