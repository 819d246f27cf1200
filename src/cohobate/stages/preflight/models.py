"""Checks of teacher and student as models of this process: they load, their templates, lengths and tokenizers fit."""

from __future__ import annotations

from cohobate.core.errors import CohobateError
from cohobate.core.model_shape import context_of, rope_limit
from cohobate.stages.preflight.scope import Loaded, Scope


def teacher(scope: Scope) -> Loaded:
    """The teacher's folder loads; of a teacher that runs elsewhere, its outline."""
    from cohobate.models.loading import outline

    teacher = scope.recipe.teacher
    path = teacher.model
    if not scope.outlines_teacher():
        return _load(scope, path, teacher.template)
    model = outline(path, template=teacher.template)
    return Loaded(f"{path}: {model.config.model_type}, which vLLM loads", model)


def student(scope: Scope) -> Loaded:
    """The student's folder loads."""
    from cohobate.models.loading import refuse_untrainable, with_ends

    loaded = _load(scope, scope.recipe.student.model, scope.recipe.student.template)
    refuse_untrainable(loaded.value)
    return Loaded(loaded.detail, with_ends(loaded.value, scope.recipe))


def _load(scope: Scope, path: str, template: str | None) -> Loaded:
    from cohobate.models.loading import load
    from cohobate.models.model_cost import cost_of

    model = load(path, device=scope.recipe.runtime.device, template=template)
    cost_of(model.config)  # the ledger of each stage counts with it
    return Loaded(f"{path}: {model.model.num_parameters():,} parameters on {model.device}", model)


def logits(scope: Scope) -> str:
    """Scores and samples of this program are those of each model's own forward pass."""
    from cohobate.models.loading import LoadedModel
    from cohobate.models.own_forward import require_own_logits

    recipe = scope.recipe
    differences = [
        require_own_logits(model, role, recipe.opd.tokens_per_batch, samples=scope.samples_here(role))
        for role, model in scope.models.items()
        if isinstance(model, LoadedModel)
    ]
    if not differences:
        return "no weights are here to be compared"
    return f"log-probabilities differ from the model's own forward pass by {' and '.join(differences)} nats per token"


def lengths(scope: Scope) -> str:
    """The longest responses leave room for the prompt, in the models and in the engines."""
    recipe = scope.recipe
    contexts = {role: context_of(model.config) for role, model in scope.models.items()}
    context = min((limit for limit in contexts.values() if limit is not None), default=None)
    engine, response = recipe.teacher.max_length, recipe.triples.max_tokens * recipe.teacher.is_folder
    if recipe.teacher.uses_engine and engine is not None and response >= engine:
        raise CohobateError(
            f"triples.max_tokens is {response}, but teacher.max_length only {engine} for prompt and response together; "
            "raise teacher.max_length"
        )
    sampled = {
        "opd": recipe.opd.max_tokens * bool(recipe.opd.steps and recipe.opd.sampler == "vllm"),
        "evaluation": recipe.evaluation.max_tokens * (recipe.evaluation.sampler == "vllm"),
    }
    for section, most in sampled.items():
        if recipe.opd.vllm.max_length is not None and most >= recipe.opd.vllm.max_length:
            raise CohobateError(
                f"{section}.max_tokens is {most}, but opd.vllm.max_length only {recipe.opd.vllm.max_length} for prompt "
                "and response together; raise opd.vllm.max_length"
            )
    longest = max(response, recipe.opd.max_tokens, recipe.evaluation.max_tokens)
    if context is None:
        return f"responses of {longest} tokens; the models' configs give no limit to the context"
    if longest >= context:
        raise CohobateError(f"max_tokens is {longest}, but the models' context is {_context(scope, context)}; lower it")
    return f"responses of {longest} tokens leave {context - longest} of {context} for the prompt"


def _context(scope: Scope, context: int) -> str:
    """The context, and where it comes from if not from the number of positions."""
    ropes = {role: rope_limit(model.config) for role, model in scope.models.items()}
    by_rope = [role for role, limit in ropes.items() if limit == context]
    if not by_rope:
        return str(context)
    return (
        f"{context} (beyond it the rotary embedding of the {by_rope[0]} depends on the longest row of a batch, so that "
        "a row's probabilities would depend on the rows beside it)"
    )


def tokenizers(scope: Scope) -> str:
    """Teacher and student read the same tokens, unless spans of text are scored."""
    from cohobate.models.loading import refuse_mismatch

    recipe, teacher, student = scope.recipe, scope.loaded["teacher"], scope.loaded["student"]
    if recipe.opd.steps and recipe.opd.by_spans and not (recipe.sft.steps and recipe.sft.asks_teacher):
        sizes = len(teacher.tokenizer), len(student.tokenizer)
        return f"spans of text are scored: {sizes[0]} tokens of the teacher, {sizes[1]} of the student"
    refuse_mismatch(teacher, student)
    return f"the same {len(student.tokenizer)} tokens, end ids {student.eos_ids}"


def adapters(scope: Scope) -> str:
    """Adapters fit the student's layers, and merged they are the model that is trained."""
    from cohobate.training.lora import require_mergeable, unadapted_experts, with_lora

    recipe, model = scope.recipe, scope.loaded["student"].model
    sections = [section for section in (recipe.sft, recipe.opd) if section.steps and section.lora]
    left = 0
    for section in sections:
        adapted = with_lora(model, section, recipe.student.model)
        left = max(left, unadapted_experts(model))
        require_mergeable(adapted, model)
    fit = "adapters fit the student's layers, and merged they are the model that is trained"
    return f"{fit}; {left:,} weights of experts have none and stay as they are" if left else fit
