"""A folder with flows or tasks of somebody's own is no place for runs, since Prefect would import those."""

from pathlib import Path

import pytest

from cohobate.core.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", ["flows/__init__.py", "tasks/__init__.py", "flows.py", "tasks.py"])
def test_a_folder_with_a_module_of_that_name_is_refused(file: str, tmp_path: Path) -> None:
    from tasks.server.definitions import refuse_namesakes

    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    name = file.split("/", maxsplit=1)[0].removesuffix(".py")
    with pytest.raises(UserError, match=f"has a module '{name}' of its own, which Prefect would import there"):
        refuse_namesakes(tmp_path)


def test_other_folders_and_that_of_cohobate_itself_are_taken(tmp_path: Path) -> None:
    from tasks.server.definitions import refuse_namesakes

    (tmp_path / "flows").mkdir()  # no module: cohobate's is found behind it
    (tmp_path / "myflows.py").touch()
    refuse_namesakes(tmp_path)
    refuse_namesakes(ROOT)
