"""Where the questions come from."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints, model_validator

from cohobate import SOURCE_ENTRY_POINTS
from cohobate.core import plug_ins
from cohobate.core.settings import EXECUTION, Count, Positive, Section, Share

SOURCES = ("world", "file", "documents")


class Columns(Section):
    """The names that a source gives to its columns. `a.b` is the field b of the column a, `a.0` its first item,
    `a.-1` its last.
    """

    question: str = "question"
    """The question's text, or a list of chat messages (also as JSON text): the whole conversation up to its last user
    message is asked, and the assistant's message behind it is the gold response."""
    gold_answer: str = "gold_answer"
    r"""The right answer; of a text with a \boxed{}, what is in the last one."""
    gold_response: str | None = None
    """A good response, rationale and answer, that somebody wrote; an objective may learn from it. Where there is none,
    it is the assistant's message at the end of chat messages."""
    system: str | None = None
    """A system message, for a question that brings none in its messages."""
    id: str | None = None
    """A unique name of the question; None: the hash of its text."""
    choices: str | None = None
    """A list of choices, or {text, label} lists: they are written below the question as A., B., ..., and the gold
    answer - a label, a choice's text, or as a number its position from 0 - becomes the label."""


class Hub(Section):
    """The part of a dataset that `path` names as hf:OWNER/NAME or hf:FOLDER."""

    config: str | None = None
    """Which of its configurations; None: its only or default one."""
    split: str = "train"
    """Which of its splits, in the words of the datasets library: train, train+test, train[:1000], ..."""
    revision: str | None = None
    """Commit, tag or branch; a full commit identifies the data without loading them."""


def _known_source(name: str) -> str:
    return plug_ins.function_name(SOURCE_ENTRY_POINTS, name, SOURCES, "source of questions")


def _no_secret(path: str | None) -> str | None:
    """A path is recorded with every run, and the message must not repeat it."""
    parts = urlsplit(path or "")
    if parts.scheme and parts.netloc and (parts.username or parts.password or parts.query):
        raise ValueError("an address must carry no name, key or signature; fsspec finds those in the environment")
    return path


def _must_show(prompt: str) -> str:
    if "{document}" not in prompt:
        raise ValueError("a documents prompt must contain {document}")
    return prompt


class Documents(Section):
    """How documents become questions: the teacher is shown a passage, and writes a question about it and the answer."""

    words: Positive = 250
    """Longest passage, in words; it ends at the end of a paragraph, or of a sentence in a longer one."""
    overlap: Count = 30
    """So many words, in whole sentences, of a passage stand at the beginning of the next one too."""
    prompt: Annotated[str, AfterValidator(_must_show)] = (
        "Here is a passage of {title}:\n\n{document}\n\nWrite one question that this passage answers, as somebody "
        "would ask it who does not have the passage. Then answer it, step by step, by what the passage says. Write it "
        "in this form:\nQuestion: the question\nthe steps\nAnswer: the answer"
    )
    """The prompt of the teacher; {document} is the passage, {title} its file and headings. The reply must say
    `Question:` before anything else: that becomes the triple's question, the rest its rationale and answer."""
    exam: Annotated[str | None, AfterValidator(_no_secret), EXECUTION] = None
    """A questions file (as `path` with source = "file") about the documents, to evaluate on: its split is test."""

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if self.overlap * 2 > self.words:
            raise ValueError(f"overlap {self.overlap} is more than half of words {self.words}")
        return self


class Fractions(Section):
    """Shares of a questions file, drawn by the hash of the question; they add up to 1."""

    train: Share = 0.4
    fresh: Share = 0.4
    validation: Share = 0.05
    test: Share = 0.15

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.fresh + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}, not to 1")
        return self


class Questions(Section):
    """Where the questions come from: the embedded world, files, or documents."""

    source: Annotated[str, AfterValidator(_known_source)] = "world"
    """world: the generator that ships with cohobate. file: rows of `path`. documents: passages of the texts in `path`,
    all of them training questions. module:function, or the name of an installed package's entry point in
    cohobate.sources: your own, called with `path` and `options`; it gives rows, which are read as those of a file."""
    options: dict[str, str | int | float | bool] = {}
    """Your own source: the keywords with which it is called, besides path."""
    path: Annotated[str | None, AfterValidator(_no_secret), EXECUTION] = None
    """file: .parquet, .csv, .jsonl, .jsonl.gz or .jsonl.zst - a file, a folder or a glob of one kind, an address
    (https://, s3://, gs://) of one file - or hf:OWNER/NAME or hf:FOLDER for the datasets library. documents: a .md or
    .txt file, a folder or a glob. Their content, not their place, is what counts."""
    columns: Columns = Columns()
    """file, your own: names of its columns."""
    hf: Hub = Hub()
    """file: what to take of an hf: dataset."""
    gold_after: str | None = None
    r"""file: the gold answer is what stands after the last of these marks, such as "####" in GSM8K; "\\boxed": in the
    last box of LaTeX."""
    repeated: Literal["refuse", "first"] = "refuse"
    """file: treatment of an id, or without ids a question, that comes again. first: keep the first."""
    unsupported: Literal["refuse", "drop"] = "refuse"
    """file: treatment of a question that is more than text, with an image, a sound, a file or tools in its messages.
    drop: leave it out, and count it by kind."""
    special_tokens: Literal["text", "set_aside"] = "text"
    """Treatment of a question in whose text a special token of the teacher or the student stands, such as <|im_end|>.
    text: it is read as text, and never as the token. set_aside: it is left out, named and counted."""
    system: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    """A system message for every question that brings none of its own; teacher and student alike are asked with it.
    Those of [teacher] and [student] stand before it. Not for documents."""
    licence: str | None = None
    """The licence of the questions or documents, in your words, for dataset cards."""
    documents: Documents = Documents()
    """documents: how they are cut, and what is asked about them."""
    split: Fractions = Fractions()
    """file: shares of its questions, unless it has a `split` column. Where it is not set and opd.steps is 0, the fresh
    questions are training questions too."""
    train: Count = 1500
    """World: questions that the teacher answers for SFT."""
    fresh: Count = 8000
    """World: questions for on-policy distillation, seen by nobody before."""
    validation: Count = 400
    """World: questions for evaluation points during training."""
    test: Count = 2000
    """World: held-out test questions."""
    hard: Count = 500
    """World: test questions with more operations than any in training."""
    min_depth: Positive = 2
    """World: fewest operations of a question."""
    max_depth: Positive = 4
    """World: most operations of a question."""
    hard_depth: tuple[Positive, Positive] = (5, 6)
    """World: fewest and most operations of a hard question."""
    story: Share = 0.3
    """World: share of questions in the form of a short story."""
    seed: int = 0
    """Seed of the draw, and of the split of files."""

    @property
    def is_function(self) -> bool:
        """Whether it is a function of the user."""
        return self.source not in SOURCES

    @property
    def has_rows(self) -> bool:
        """Whether its questions are rows with columns, which are put into splits by shares."""
        return self.source == "file" or self.is_function

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source in ("file", "documents") and self.path is None:
            raise ValueError(f"source = '{self.source}' needs a path")
        if self.source == "world" and self.path is not None:
            raise ValueError("path is set but source is 'world'; set source = 'file' or drop the path")
        if self.options and not self.is_function:
            raise ValueError("options are for a source of your own; drop them, or name it in questions.source")
        if self.source == "documents" and self.system:
            raise ValueError("system is for questions that are given; for documents set teacher.system, student.system")
        if self.hf != Hub() and not (self.path or "").startswith("hf:"):
            raise ValueError("hf is set but path names no dataset; write path = 'hf:OWNER/NAME'")
        if self.min_depth > self.max_depth:
            raise ValueError(f"min_depth {self.min_depth} is above max_depth {self.max_depth}")
        if self.source == "world" and self.hard and self.hard_depth[0] <= self.max_depth:
            raise ValueError("hard_depth must begin above max_depth: hard questions are out of range")
        return self
