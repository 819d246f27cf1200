"""The notebook in examples/ is executed as it stands, in a folder of its own, and says what the repository holds."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def said(notebook: Any) -> list[str]:
    """What the cells print and show, without its numbers, which differ between machines."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [
        output.get("text") or output.data["text/plain"] for output in outputs if output.get("name", "") != "stderr"
    ]
    return [re.sub(r"\s*[\d.]+%?", " #", text) for text in texts]


@pytest.mark.trains
@pytest.mark.serves
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_it_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    written = nbformat.read(path, as_version=4)
    assert not re.search(r"/(tmp|home|root|work|Users)\b", path.read_text()) and any(said(written))
    monkeypatch.delenv("COHOBATE_DATA", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    fresh = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(fresh, timeout=300, kernel_name="python3", resources=where).execute()
    assert said(fresh) == said(written)
    assert (tmp_path / "data" / "report").is_dir()


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
