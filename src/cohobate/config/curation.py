"""Which triples are worth learning from: the same settings for a recipe and for `cohobate curate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cohobate.config.base import SplitName
from cohobate.core.settings import EXECUTION, Count, Positive, Section, Share


class Part(Section):
    """One part of a mix."""

    weight: Annotated[float, Field(gt=0)]
    """Its share is this, divided by the weights of all parts."""
    triples: Annotated[str | None, EXECUTION] = None
    """Another triples artifact, by its id or the beginning of it; its fingerprint counts. None: the triples that are
    curated."""
    source: str | None = None
    """Only samples with this source_name; None: all that no other part takes by its source."""


class Mix(Section):
    """Sources at a ratio, such as documents to chat as 70 to 30."""

    parts: tuple[Part, ...] = ()
    """The parts of the mix; a sample that fits no part is left out. Empty: no mixing."""
    by: Literal["rows", "tokens"] = "rows"
    """Unit of the ratio: samples, or tokens of their responses."""
    seed: int = 0
    """Which samples are taken of a part that has more than its share: as much as possible is kept, nothing repeated."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [(part.triples, part.source) for part in self.parts]
        if len(names) == 1:
            raise ValueError("a mix needs two parts")
        if len(set(names)) < len(names):
            raise ValueError("two parts of the mix are the same; give each its own triples or source")
        return self


class Curation(Section):
    """Which of the triples are kept; the others are kept beside, each with its reason."""

    keep_truncated: bool = False
    """Keep responses that were cut at the token limit."""
    max_tokens: Positive | None = None
    """Longest response kept, in tokens; None: any."""
    min_words: Count = 0
    """Shortest question kept, in words; two Chinese characters, three kana or four Thai letters count as one."""
    max_words: Positive | None = None
    """Longest question kept, in words; None: any."""
    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = ()
    """Keep only questions and responses in these languages (ISO 639, such as en); a text with few words, or of which
    they are not unlikely to be the language, stays. Empty: any. Needs the extra cohobate[language]."""
    pass_rate: tuple[Share, Share] | None = None
    """Keep only questions whose pass rate lies in this closed interval; None: any, also an unknown one."""
    ngrams: tuple[Positive, ...] = (13,)
    """Drop questions that share so many words in a row with an evaluation question, in their normal form; empty: do not
    look."""
    against: tuple[SplitName, ...] = ("validation", "test", "hard")
    """The splits of the questions that are evaluated on."""
    duplicates: bool = True
    """Drop questions that repeat an earlier one but for case, spaces, invisible characters and emphasis."""
    near_duplicates: Share = 0.8
    """Drop questions that share this part of their word trigrams, and all figures, with an earlier one; 0: none."""
    mix: Mix = Mix()
    """Sources at a ratio, of what the limits above leave."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        if self.pass_rate is not None and self.pass_rate[0] > self.pass_rate[1]:
            raise ValueError(
                "pass_rate must begin with the lower bound, such as [{:g}, {:g}]".format(*self.pass_rate[::-1])
            )
        return self
