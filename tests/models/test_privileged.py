"""The conversation under which a teacher scores, with what the student is not shown."""

import json
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.core.conversation import Conversation, Message, Query
from cohobate.core.errors import QuestionsError
from cohobate.models.chat_template import question_ids, student_format
from cohobate.models.loading import LoadedModel
from cohobate.models.privileged import Shown, format_of_scoring, require_names, share_of_mentions

EXAMPLE = {"question": "a", "response": "b"}


def recipe(student: dict[str, Any] | None = None, **teacher: Any) -> Recipe:
    return Recipe.model_validate({"teacher": {"prompt": "{question} Think.", **teacher}, "student": student or {}})


def shown(**context: Any) -> Shown:
    return Shown.of(recipe(privileged=context))


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    columns = {"question": "?", "gold_answer": None, "gold_response": None, "meta": None}
    return pl.DataFrame([{**columns, **row} for row in rows], schema=dict.fromkeys(columns, pl.String))


def test_names_are_replaced_once_and_by_what_the_question_carries() -> None:
    how = shown(prompt="{document}\n{question} = {gold_answer}; {feedback}; \\boxed{}")
    row = {"meta": json.dumps({"document": "It says {gold_answer} and {question}."}), "gold_answer": "7"}
    [values] = how.rows(frame(row))
    assert how.query("3 + 4", values, "incorrect (another answer)") == (
        "It says {gold_answer} and {question}.\n3 + 4 = 7; incorrect (another answer); \\boxed{}"
    )


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"system": "Know: {gold_answer}."}, [("system", "Know: 7."), ("user", "3 + 4? Think.")]),
        (
            {"examples": [{"question": "1 + {x}", "response": "{question}"}], "prompt": "So: {question}"},
            [("user", "1 + {x}"), ("assistant", "{question}"), ("user", "So: 3 + 4?")],
        ),
    ],
)
def test_a_system_message_and_examples_stand_before_the_question(
    context: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    asked = shown(**context).query("3 + 4?", {"gold_answer": "7"})
    assert isinstance(asked, Conversation)
    assert [(message.role, message.content) for message in asked.messages] == expected


def test_a_conversation_keeps_its_turns_and_its_own_instructions() -> None:
    written = [("system", "Brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 2?")]
    turns = tuple(Message(role, text) for role, text in written)  # type: ignore[arg-type]
    context = {"system": "Kind.", "prompt": "{question} ({gold_answer})", "examples": [EXAMPLE]}
    asked = shown(**context).query(Conversation(turns), {"gold_answer": "4"})
    assert isinstance(asked, Conversation)
    assert [message.content for message in asked.messages] == [
        "Kind.\n\nBrief.",
        *("a", "b", "Hi", "Hello", "2 + 2? (4)"),
    ]


@pytest.mark.parametrize("question", ["What is 3 + 4?", Conversation((Message("system", "s"), Message("user", "u")))])
def test_without_a_context_teacher_and_student_are_asked_as_before(teacher: LoadedModel, question: Query) -> None:
    for settings in (recipe(), recipe({"prompt": "Q: {question}"}, follow=0.5)):
        own = Shown.of(settings).query(question, {})
        assert own == question
        ids = question_ids(teacher.tokenizer, own, format_of_scoring(settings, teacher.tokenizer))
        text = teacher.tokenizer.decode(ids)
        assert ("Think." in text) == (settings.teacher.follow is None) == ("Q: " not in text)


def test_a_teacher_that_is_the_student_is_asked_as_the_student_is(teacher: LoadedModel) -> None:
    settings = recipe({"prompt": "Q: {question}", "system": "S"}, follow=0, privileged={"examples": [EXAMPLE]})
    asked = Shown.of(settings).query("1 + 1?", {})
    ids = question_ids(teacher.tokenizer, asked, format_of_scoring(settings, teacher.tokenizer))
    own = question_ids(teacher.tokenizer, "1 + 1?", student_format(settings))
    text, plain = teacher.tokenizer.decode(ids), teacher.tokenizer.decode(own)
    assert text.replace("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n", "") == plain != text


def test_a_context_that_shows_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is shown"):
        shown()


def test_rows_without_a_value_are_set_aside_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    how = shown(prompt="{question} {gold_answer} {note}")
    note = json.dumps({"note": "n"})
    rows = [{"gold_answer": "1", "meta": note}, {"gold_answer": " ", "meta": note}, {"gold_answer": "1"}]
    rows += [{"meta": note}, {"gold_answer": "1", "meta": json.dumps({"note": None})}]
    assert len(how.with_values("opd", frame(*rows))) == 1
    assert "4 of 5 rows are set aside, since they have no value for {gold_answer} or {note}" in capsys.readouterr().err
    with pytest.raises(QuestionsError, match=r"no question has a value for \{note\}, which teacher.privileged names"):
        how.with_values("opd", frame({"gold_answer": "1"}))


def test_a_name_that_no_question_has_is_refused_with_those_that_they_have() -> None:
    questions = frame({"gold_answer": "1"}, {"meta": json.dumps({"passage": "p", "n": 3})})
    require_names(recipe(privileged={"prompt": "{question} {passage} {n} {gold_answer} {feedback}"}), questions)
    with pytest.raises(QuestionsError, match=r"names \{document\}.*\{question\}, \{gold_answer\}, \{passage\}, \{n\}"):
        require_names(recipe(privileged={"prompt": "{question} {document}"}), questions)


def test_values_that_are_no_text_are_shown_as_json() -> None:
    how = shown(prompt="{question} {n} {list}")
    [values] = how.rows(frame({"meta": json.dumps({"n": 3.5, "list": ["a", "ü"]})}))
    assert how.query("?", values) == '? 3.5 ["a", "ü"]'


def test_a_special_token_in_a_document_is_text_to_the_teacher(teacher: LoadedModel) -> None:
    settings = recipe(privileged={"prompt": "{document} {question}"})
    asked = Shown.of(settings).query("?", {"document": "a <|im_end|> b"})
    ids = question_ids(teacher.tokenizer, asked, format_of_scoring(settings, teacher.tokenizer))
    assert ids.count(teacher.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1  # of the turn itself


def test_the_share_of_rollouts_that_speak_of_the_context() -> None:
    texts = ["As The Document says, 7.", "7", "by the hint", "documents"]
    assert share_of_mentions(texts, ["the document", "the hint"]) == 0.5
    assert share_of_mentions([], ["x"]) == 0.0


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"sft": {"objective": "logit_kd", "turns": "all"}}, r"set sft\.turns = 'last'"),
        ({"sft": {"objective": "logit_kd"}, "feedback": True}, r"sft\.objective = 'logit_kd' scores triples"),
        ({"opd": {"objective": "gkd", "gkd": {"on_policy": 0.5}}, "feedback": True}, r"opd\.objective = 'gkd' scores"),
    ],
)
def test_what_a_stage_cannot_show_is_refused(sections: dict[str, Any], words: str) -> None:
    prompt = "{question} {feedback}" if sections.pop("feedback", False) else "{question} {gold_answer}"
    with pytest.raises(ValueError, match=words):
        Recipe.model_validate({"teacher": {"privileged": {"prompt": prompt}}, **sections})
