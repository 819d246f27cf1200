"""Files that ship with cohobate: those of the repository's data/, or their copies inside the wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_ROOTS = (_PACKAGE / "_shipped", _PACKAGE.parents[1] / "data")


def shipped_path(name: str) -> Path | None:
    """The file or folder shipped as `name` (such as `world/teacher` or `recipes/tiny.toml`), or None."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return next((root / name for root in _ROOTS if (root / name).exists()), None)


def shipped_recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = shipped_path("recipes")
    return sorted(path.stem for path in folder.glob("*.toml")) if folder else []
