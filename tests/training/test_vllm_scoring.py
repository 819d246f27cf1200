"""A real `vllm serve` that scores: its log-probabilities are those of transformers; preflight sees what is wrong."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import CohobateError
from cohobate.core.shipped import shipped_path
from cohobate.models.chat_template import question_ids, student_format, teacher_format
from cohobate.models.loading import load
from cohobate.models.logprobs import score
from cohobate.models.sampling import sampler
from cohobate.models.sequence import TrainingSequence
from cohobate.stages.preflight import check, print_findings
from cohobate.teachers.endpoint.scoring_checks import ScoringServer
from cohobate.teachers.vllm.server import scoring_server
from cohobate.training.distributed import ALONE
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import ScoringInput
from cohobate.training.scoring.local import LocalScorer
from cohobate.training.scoring.server import ServerScorer
from tests.support.vllm_runs import needs_vllm

pytestmark = needs_vllm

CONTEXT = 200
SERVED = ["runtime.threads=1", "teacher.scoring=server", f"teacher.max_length={CONTEXT}", "opd.objective=topk"]
K = 24  # beyond the 20 that vLLM allows unless it is told otherwise


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    """The tiny recipe with the address of a server that runs as long as the tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHOBATE_DATA", str(tmp_path_factory.mktemp("served")))
        with scoring_server(load_recipe("tiny", [*SERVED, f"opd.topk.k={K}"])) as recipe:
            yield recipe


def altered(served: Recipe, *changes: str) -> Recipe:
    return load_recipe("tiny", [*SERVED, f"teacher.base_url={served.teacher.base_url}", *changes])


def endpoint(served: Recipe, *changes: str) -> Recipe:
    """The same server as one of which only the address is known."""
    known = ["teacher.kind=endpoint", "teacher.model=world/teacher", f"teacher.base_url={served.teacher.base_url}"]
    return load_recipe("tiny", ["runtime.threads=1", "opd.objective=topk", *known, *changes])


def test_its_scores_are_those_of_transformers(served: Recipe, tmp_path: Path) -> None:
    """Of real rollouts, up to a context's last token, for the sampled tokens and the likeliest ones."""
    student, teacher = load("world/base"), load("world/teacher")
    questions = [f"What is {n} + {n} * 3?" for n in range(12)]
    prompts = [question_ids(student.tokenizer, question, student_format(served)) for question in questions]
    longest = CONTEXT - 40
    sampled = sampler.sample(
        student.model,
        prompts,
        sampler.Decoding(longest),
        sampler.uniforms(0, questions, longest),
        eos_ids=student.eos_ids,
        pad_id=student.pad_id,
    )
    inputs = [ScoringInput(n, questions[n], row.response_ids) for n, row in enumerate(sampled)]
    needs = TeacherNeeds(top_k=K, ghosts=True)
    theirs = ServerScorer(served, student, needs, tmp_path / "served", 500, ALONE)
    ours = LocalScorer(teacher, teacher_format(served), needs, tmp_path / "local", 2048, ALONE, keeps=False)
    assert sum(len(item.response_ids) for item in inputs) > 300
    for by_server, by_model in zip(theirs.score(0, inputs), ours.score(0, inputs), strict=True):
        server, local = by_server.features(), by_model.features()
        assert server.keys() == local.keys()
        for name in ("teacher_logprobs", "teacher_top_logprobs"):
            assert torch.allclose(server[name], local[name], rtol=0, atol=1e-4)
        # Where two are as likely, their order is nobody's.
        clear = (local["teacher_top_logprobs"].diff(dim=1).abs() > 1e-3).all(1)
        assert clear.any() and server["teacher_top_ids"][clear].equal(local["teacher_top_ids"][clear])
        assert server["ghost_ids"][clear].equal(local["ghost_ids"][clear])


def results(recipe: Recipe) -> dict[str, tuple[bool, str]]:
    return {item.name: (item.passed, item.detail) for item in check(recipe)}


def failed(recipe: Recipe) -> dict[str, str]:
    return {name: detail for name, (passed, detail) in results(recipe).items() if not passed}


def test_preflight_is_a_table_with_a_verdict_a_line(
    served: Recipe, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(altered(served))
    print_findings(found)
    said = capsys.readouterr().out
    assert all(item.passed for item in found) and len(found) >= 15
    for item in found:
        assert re.search(rf"^ ok +{item.name} ", said, re.MULTILINE)
    assert not failed(endpoint(served))


def copied(name: str, folder: Path) -> Path:
    shipped = shipped_path(f"world/{name}")
    assert shipped is not None
    return Path(shutil.copytree(shipped, folder / name))


def test_preflight_catches_the_wrong_model(served: Recipe, data: Path) -> None:
    found = failed(endpoint(served, "teacher.model=qwen"))
    assert list(found) == ["teacher answers"] and re.search("has no model 'qwen'.*teacher.model", str(found))
    found = failed(altered(served, "teacher.model=world/base"))
    assert re.search(r"has no model 'world/base'", found["server scores"])


def test_preflight_catches_other_weights_under_the_right_name(served: Recipe, data: Path) -> None:
    def agreement(name: str) -> str:
        """With the model that the recipe's folder would hold."""
        model = load(name)

        def local(row: TrainingSequence) -> list[float]:
            [found] = score(model.model, [row], 512, model.pad_id)
            return [float(value) for value in found.logprobs]

        return ScoringServer(served, load("world/base")).agrees(local)

    assert re.search(r"here differ by \S+ nats per token$", agreement("world/teacher"))
    with pytest.raises(CohobateError, match=r"serves another model than world/teacher: .* nats per token; correct"):
        agreement("world/base")


def test_preflight_catches_another_tokenizer(served: Recipe, data: Path, tmp_path: Path) -> None:
    folder = copied("base", tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    one, other = [token for token in vocabulary if token.isalpha()][:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    found = failed(endpoint(served, f"student.model={folder}"))
    assert re.search(
        r"reads other tokens: 2 of \d+ differ, such as id \d+, which is .* there", found["server tokenizer"]
    )


def test_preflight_catches_another_vocabulary_size(served: Recipe, data: Path, tmp_path: Path) -> None:
    student = load("world/base")
    student.tokenizer.add_tokens(["<|more|>"])
    student.model.resize_token_embeddings(len(student.tokenizer))
    student.model.save_pretrained(tmp_path / "larger")
    student.tokenizer.save_pretrained(tmp_path / "larger")
    found = failed(endpoint(served, f"student.model={tmp_path / 'larger'}"))
    assert re.search(r"does not know the student's token 512 .*its vocabulary is smaller", found["server vocabulary"])


def test_preflight_catches_another_end(served: Recipe, data: Path, tmp_path: Path) -> None:
    folder = copied("base", tmp_path)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        values = {key: 5 if key == "eos_token_id" else value for key, value in values.items()}
        if "eos_token" in values:
            values["eos_token"] = values["pad_token"]
        (folder / name).write_text(json.dumps(values))
    assert not failed(endpoint(served, f"student.model={folder}"))  # SFT teaches the end of its chat template
    found = failed(endpoint(served, f"student.model={folder}", "sft.end=student"))
    assert re.search(r"ends a response with id 2, the student with \(.*never to stop; set eos", found["server end"])


def test_preflight_catches_a_template_that_differs(served: Recipe, data: Path, tmp_path: Path) -> None:
    folder = copied("base", tmp_path)
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert "<|im_start|>assistant" in text
    template.write_text(text.replace("<|im_start|>assistant", "<|im_start|> assistant"))
    found = failed(endpoint(served, f"teacher.tokenizer={folder}"))
    assert list(found) == ["server template"]
    assert re.search(r"writes another prompt than the tokenizer here: .* instead of .*", found["server template"])


def test_preflight_catches_too_short_a_context(served: Recipe, data: Path) -> None:
    found = failed(endpoint(served, "opd.max_tokens=190"))
    assert list(found) == ["server context"]
    assert re.search(rf"reads at most {CONTEXT} tokens, but a rollout of 190 .*max-model-len", found["server context"])
