"""The list of artifacts: what is done, damaged, promoted and still being built."""

from pathlib import Path

from cohobate.core.locks import exclusive
from cohobate.store import promotion
from cohobate.store.artifacts import Store
from cohobate.store.listing import list_artifacts
from tests.support.artifacts import make


def test_every_artifact_and_build_is_listed_with_its_state(data: Path) -> None:
    questions = make("questions", "questions")
    triples = make("triples", "triples", questions)
    student = make("student", "sft", triples, questions)
    promotion.promote("night", [triples], "by hand")
    next(path for path in student.path.iterdir() if path.name != "manifest.json").write_text("altered")
    partial = data / "opd" / "night-0123abcd.partial"
    partial.mkdir(parents=True)
    (partial / "state").write_bytes(b"12345")
    listed = {each.id: each for each in list_artifacts()}
    assert list(listed) == [questions.id, triples.id, student.id, "opd/night-0123abcd"]
    assert [each.status for each in listed.values()] == ["done", "done", "damaged", "stopped"]
    assert [each.promoted for each in listed.values()] == [False, True, False, False]
    build = listed["opd/night-0123abcd"]
    with exclusive(data / "opd" / ".0123abcd.lock", build.id):  # as by another process: of another open file
        assert list_artifacts()[-1].status == "building"
    assert list_artifacts()[-1].status == "stopped"
    assert (build.recipe, build.fingerprint, build.bytes, build.created_at) == ("night", "0123abcd", 5, None)


def test_an_artifact_is_promoted_with_its_nearest_ancestors(data: Path) -> None:
    questions = make("questions", "questions")
    first = make("triples", "triples", questions)
    curated = make("curated", "triples", first)
    student = make("student", "sft", curated, questions)
    pointer = promotion.promote_lineage(Store(), student, "by hand")
    assert pointer.artifacts == {"questions": questions.id, "triples": curated.id, "sft": student.id}
