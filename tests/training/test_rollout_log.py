"""The rollout log: one Parquet file per step with declared columns, whose readers need not know who wrote it."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cohobate.core.schema import ROLLOUTS
from cohobate.models.logprobs import TokenScores
from cohobate.training.rollout_log import RolloutLog
from cohobate.training.types import ScoredRollout
from tests.support.rollouts import scored_rollout

SCORED = scored_rollout(0, [7, 8, 9], [-0.5, -0.25, -1.5], reward=1.0, ghost_ids=[7, 9])
TEACHER = TokenScores(torch.tensor([-0.5, -2.0, -0.125]), hidden=torch.ones(3, 4), spans=torch.tensor([0, 0, -1]))
ROWS = [ScoredRollout(SCORED.rollout, TEACHER, 12), scored_rollout(1, [5], [-3.0])]


@pytest.fixture
def log(tmp_path: Path) -> RolloutLog:
    return RolloutLog(tmp_path / "rollouts")


def test_a_step_is_read_as_it_was_appended(log: RolloutLog) -> None:
    log.append(3, ROWS)
    assert log.read(3) == [
        scored_rollout(0, [7, 8, 9], [-0.5, -0.25, -1.5], reward=1.0, ghost_ids=[7, 9], prompt_ids=[1, 2]).rollout,
        scored_rollout(1, [5], [-3.0], prompt_ids=[1, 2]).rollout,
    ]
    assert log.read(2) is None


def test_its_file_has_the_declared_columns_and_the_teachers_logprobs(log: RolloutLog, tmp_path: Path) -> None:
    log.append(0, ROWS)
    log.append(1, ROWS[:1])
    assert log.publish(tmp_path / "rollouts.parquet") == 3
    file = pq.ParquetFile(tmp_path / "rollouts.parquet")
    assert file.schema_arrow == ROLLOUTS.arrow and file.num_row_groups == 2
    frame = pl.read_parquet(tmp_path / "rollouts.parquet")
    assert frame["teacher_logprobs"].to_list() == [[-0.5, -2.0, -0.125], None, [-0.5, -2.0, -0.125]]
    assert frame["teacher_spans"].to_list() == [[0, 0, -1], None, [0, 0, -1]]
    assert frame["teacher_prompt_tokens"].to_list() == [12, None, 12]


def test_unscored_rollouts_of_every_process_are_there_until_the_step_is_complete(log: RolloutLog) -> None:
    first, second = (item.rollout for item in ROWS)
    log.append_unscored(4, 0, [first])
    log.append_unscored(4, 1, [second])
    assert {row: item.response_ids for row, item in log.read_unscored(4).items()} == {0: [7, 8, 9], 1: [5]}
    assert log.read(4) is None and log.read_unscored(3) == {}
    log.append(4, ROWS)
    assert log.read_unscored(4) == {}


def test_a_log_with_columns_in_another_order_and_more_of_them_is_read(log: RolloutLog) -> None:
    """An older version of the program may have written it."""
    log.append(0, ROWS)
    path = log.folder / "step-000000.parquet"
    path.with_name(f"{path.name}.sha256").unlink()  # which knew no checksums
    table = pq.read_table(path)
    names = sorted(table.column_names)
    pq.write_table(table.select(names).append_column("seconds", pa.array([0.5, 0.25])), path)
    assert [item.row for item in log.read(0) or []] == [0, 1]
