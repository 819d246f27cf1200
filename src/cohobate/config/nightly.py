"""What a nightly run starts from, and how much it trains."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from cohobate.core.settings import Section

Factor = Annotated[float, Field(gt=0, le=10)]


class Nightly(Section):
    """How the deployment `nightly` trains; `cohobate run` does not read it."""

    model_config = ConfigDict(serialize_by_alias=True)

    start: Annotated[Literal["base", "promoted"], Field(alias="from")] = "base"
    """base: a full run of the recipe, in which only what changed is made again. promoted: the promoted student goes on
    learning, from the rows that are new since it was trained and a share of the old ones; without one, a full run."""
    replay: Annotated[float, Field(ge=0, le=0.95)] = 0.5
    """promoted: share of old rows among those that a night learns: 0.5 is an old one for each new one."""
    steps: Annotated[float | None, Field(gt=0, le=1)] = None
    """promoted: part of sft.steps and opd.steps that a night makes; None: that which its rows are of all rows."""
    sft_lr: Factor = 0.03
    """promoted: factor of sft.lr. At the full rate a few steps of SFT undo what OPD has reached."""
    opd_lr: Factor = 0.25
    """promoted: factor of opd.lr."""
    seed: int = 0
    """promoted: which old rows are learnt again."""
