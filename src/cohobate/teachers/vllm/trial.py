"""The trial of an engine: whether vLLM knows a model, starts with it, and gives its own log-probabilities.

What vLLM's list of architectures says is not enough: some fail at the first token, and some compute another model.
"""

from __future__ import annotations

from cohobate.config import Runtime
from cohobate.core.model_shape import read
from cohobate.models.loading import ModelOutline, load
from cohobate.models.memory_room import give_back
from cohobate.models.own_forward import GreedyRow, greedy_job, greedy_rows, require_agreement
from cohobate.models.precision import device_memory, resolve_device
from cohobate.models.torch_setup import threads
from cohobate.teachers.vllm.install import EngineSettings
from cohobate.teachers.vllm.sampler import EngineSampler

_ROOM = 0.8  # of the memory, for the weights of a model that is compared with its engine


def tried_engine(
    model: ModelOutline, settings: EngineSettings, role: str, rows: int, runtime: Runtime
) -> tuple[EngineSampler, str]:
    """An engine with the model, `rows` responses at a time, and words on how it compares with the model's own pass.

    A model that is quantised, or that this process has no room for, is not compared.

    Raises EngineError where vLLM is not installed or does not start with the model, ModelError where it computes
    another model, or the model cannot be loaded.
    """
    engine = EngineSampler(model, settings, threads(runtime), rows=rows)
    # Before the engine starts, which on a GPU takes the memory that is left.
    own = _own_rows(model, runtime) if _is_comparable(model, runtime) else None
    try:
        engine.start()
        return engine, _words(engine, own, role, runtime)
    except BaseException:
        engine.close()
        raise


def _words(engine: EngineSampler, own: list[GreedyRow] | None, role: str, runtime: Runtime) -> str:
    name = f"vLLM {engine.install.version}"
    if own is None:
        return f"{name} starts with the {role}, which is not compared with its own forward pass here"
    half = engine.dtype != "float32" or resolve_device(runtime.device) != "cpu"
    difference = require_agreement(own, engine.sample(greedy_job(own)), role, half=half)
    return f"{name} differs from the {role}'s own forward pass by {difference:.1g} nats per token"


def _own_rows(model: ModelOutline, runtime: Runtime) -> list[GreedyRow]:
    loaded = load(model.path, device=runtime.device)
    rows = greedy_rows(loaded)
    del loaded
    give_back()
    return rows


def _is_comparable(model: ModelOutline, runtime: Runtime) -> bool:
    if read(model.config, "quantization_config") is not None:
        return False
    device = resolve_device(runtime.device)
    stored = sum(file.stat().st_size for file in model.path.glob("*.safetensors"))
    # A checkpoint is in bfloat16 as a rule, and in float32 on a CPU.
    needed = stored if device == "cuda" else 2 * stored
    return needed < _ROOM * device_memory(device)
