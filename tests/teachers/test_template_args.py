"""Variables of chat templates: to an endpoint as chat_template_kwargs, and as part of what identifies a request."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import EndpointError, RecipeError
from cohobate.stages.preflight import check
from cohobate.teachers.base import request_rendering
from tests.support.endpoint_recipe import recipe_of
from tests.support.triples_stage import make, table
from tests.support.wire_server import Act, WireServer, completion, error


@pytest.mark.serves
def test_an_endpoint_is_sent_the_variables(server: WireServer, tmp_path: Path, data: Path) -> None:
    plain = make(recipe_of(tmp_path, server.url, 2))
    assert all("chat_template_kwargs" not in seen.body for seen in server.seen)
    args = {"enable_thinking": False, "effort": {"level": [1, None]}}
    quiet = make(recipe_of(tmp_path, server.url, 2, teacher={"template_args": args}))
    assert [seen.body.get("chat_template_kwargs") for seen in server.seen[2:]] == [args, args]
    assert quiet.id != plain.id
    assert not set(table(quiet)["request_key"]) & set(table(plain)["request_key"])
    make(recipe_of(tmp_path, server.url, 3, teacher={"template_args": args}))
    assert len(server.seen) == 5  # the first two are stored


@pytest.mark.serves
def test_a_server_that_refuses_them_is_told_in_a_sentence(server: WireServer, tmp_path: Path, data: Path) -> None:
    server.plan = lambda body, time: error(400, "Unrecognized request argument supplied: chat_template_kwargs")
    with pytest.raises(EndpointError, match=r"comes from teacher\.template_args, which this server does not take"):
        make(recipe_of(tmp_path, server.url, 20, teacher={"template_args": {"enable_thinking": False}}))


@pytest.mark.serves
@pytest.mark.parametrize(("more", "words"), [(4, "its prompt changes with"), (0, "it may not read them")])
def test_preflight_tells_whether_the_server_reads_them(
    server: WireServer, tmp_path: Path, data: Path, more: int, words: str
) -> None:
    def reply(body: dict[str, Any], time: float) -> Act:
        payload = completion(body)
        payload["usage"]["prompt_tokens"] += more * ("chat_template_kwargs" in body)
        return Act(payload=payload)

    server.plan = reply
    recipe = recipe_of(tmp_path, server.url, 1, teacher={"template_args": {"enable_thinking": False}})
    details = {finding.name: finding.detail for finding in check(recipe, ["teacher"])}
    assert words in details["teacher answers"]


@pytest.mark.serves
def test_a_folded_system_message_is_what_an_endpoint_gets(server: WireServer, tmp_path: Path, data: Path) -> None:
    make(recipe_of(tmp_path, server.url, 1, teacher={"system": "Be brief.", "fold_system": True}))
    assert server.seen[0].body["messages"] == [{"role": "user", "content": "Be brief.\n\nQuestion 0?"}]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("teacher.template_args={messages=1}", "set by cohobate itself"),
        ("teacher.template_args={a=nan}", "inf and nan"),
        ("teacher.template_args={'not a name'=1}", "no name of a template's variable"),
        ("student.template_args=3", "should be a table"),
        ("student.template_file=nowhere.jinja", "cannot be read"),
        ("student.template_date=2025-13-01", "template_date"),
        ("student.template={a=1}", "valid string"),
    ],
)
def test_wrong_settings_are_one_sentence(override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe("tiny", [override])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    large, binary = tmp_path / "large", tmp_path / "binary"
    large.write_bytes(b"x" * (1 << 19))
    binary.write_bytes(b"\xff\xfe")
    for path, words in ((large, "longer than 256 KiB"), (binary, "not UTF-8"), (tmp_path, "cannot be read")):
        with pytest.raises(RecipeError, match=words):
            load_recipe("tiny", [f"student.template_file={path}"])


def test_what_is_not_set_identifies_nothing() -> None:
    recipe = Recipe()
    assert request_rendering(recipe.teacher) == {}
    assert recipe.student.identity().keys() == {"prompt", "system"}
    assert not any("template" in name or name == "fold_system" for name in recipe.teacher.identity())


def test_a_file_is_identified_by_its_content(tmp_path: Path) -> None:
    identities = []
    for name, content in (("a", "{{ 1 }}"), ("b", "{{ 1 }}"), ("c", "{{ 2 }}")):
        (tmp_path / name).write_text(content)
        identities.append(load_recipe("tiny", [f"student.template_file={tmp_path / name}"]).student.identity())
    assert identities[0] == identities[1] != identities[2]
