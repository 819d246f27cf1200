"""What `make clean` keeps, and when an environment is made anew."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_clean_keeps_all_that_an_install_takes_from_the_data_folder() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = {Path(path).parts[1] for path in included["force-include"] if path.startswith("data/")}
    [line] = re.findall(r"^\tfind data .*-exec rm .*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert folders and folders <= set(re.findall(r"! -name (\S+)", line))


@pytest.mark.serves
@pytest.mark.parametrize(("state", "made"), [("none", True), ("no pip", True), ("old", True), ("works", False)])
def test_an_environment_is_made_anew_only_where_it_is_of_no_use(tmp_path: Path, state: str, made: bool) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    environment = tmp_path / ".venv"
    if state != "none":
        packages = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        packages.mkdir(parents=True)
        (environment / "bin").mkdir()
        base = Path(sys.base_prefix) / "bin" / "python3"
        (environment / "bin" / "python").symlink_to(base)
        (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    if state in ("old", "works"):
        (packages / "pip").mkdir()
        (packages / "pip" / "__init__.py").touch()
        (packages / "pip" / "__main__.py").write_text("open('installed', 'w').close()\n")
    if state == "old":
        (packages / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 9, 2)\n")
    maker = tmp_path / "maker"
    maker.write_text('#!/bin/sh\necho "$@" > made\nexit 1\n')
    maker.chmod(0o755)
    command = ["make", "--silent", ".venv/.installed", f"PYTHON={maker}"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, check=False)
    assert (tmp_path / "made").exists() == made
    assert (tmp_path / "installed").exists() != made
    if made:
        assert (tmp_path / "made").read_text().split() == ["-m", "venv", "--clear", ".venv"]
