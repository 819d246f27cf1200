"""A teacher in this process: what its context has no room for fails by itself."""

from dataclasses import replace

from cohobate.models.loading import load
from cohobate.models.rendering import Rendering
from cohobate.teachers.base import Failure, Request, Response
from cohobate.teachers.local import LocalTeacher


def test_a_prompt_that_fills_the_context_fails_alone() -> None:
    model = load("world/teacher", device="cpu")
    short = Request("a", [{"role": "user", "content": "1 + 1 = ?"}], "m", 0.0, 1.0, 0, 2, 0, 0)
    words = "one " * model.config.max_position_embeddings
    long = replace(short, question_id="b", messages=[{"role": "user", "content": words}])
    outcomes = [item for batch in LocalTeacher(model, 8, Rendering()).answer([long, short]) for item in batch]
    [failure] = [item for item in outcomes if isinstance(item, Failure)]
    [response] = [item for item in outcomes if isinstance(item, Response)]
    assert (failure.request, failure.error_class) == (long, "ContextFull")
    assert response.key == short.key and response.completion_tokens in (1, 2)
