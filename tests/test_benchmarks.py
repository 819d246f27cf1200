"""Every benchmark can be run, and says how."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())


@pytest.mark.serves
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_shows_its_usage(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("usage: "), result.stderr


@pytest.mark.slow
def test_the_gpu_benchmark_runs_through_on_a_cpu() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small", "--no-trl"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    parts = ["rollout, 8 rows", "score, teacher", "update, gradient", "update, AdamW", "OPD step, 8 rows"]
    assert all(part in result.stdout for part in parts)
