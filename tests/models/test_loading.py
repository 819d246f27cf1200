"""Models on disk: what of them is part of an identity, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from cohobate.core.shipped import shipped_path
from cohobate.models.loading import logits_revision


@pytest.mark.parametrize(
    ("keys", "revision"),
    [
        ({}, {}),
        ({"logits_scaling": 1.0, "final_logit_softcapping": None, "output_router_logits": False}, {}),
        ({"logits_scaling": 8.0}, {"logits": 2}),
        ({"logit_scale": 0.0625}, {"logits": 2}),
        ({"text_config": {"final_logit_softcapping": 30.0}}, {"logits": 2}),
    ],
)
def test_only_models_that_were_trained_by_another_rule_are_trained_anew(
    tmp_path: Path, keys: dict[str, object], revision: dict[str, int]
) -> None:
    shipped = shipped_path("world/base")
    assert shipped is not None
    config = json.loads((shipped / "config.json").read_text())
    shutil.copytree(shipped, tmp_path / "it")
    (tmp_path / "it" / "config.json").write_text(json.dumps({**config, **keys}))
    assert logits_revision(str(tmp_path / "it")) == revision
