"""Installed packages, as folders for PYTHONPATH: a module and the metadata beside it."""

from pathlib import Path


def write_distribution(
    folder: Path, name: str, modules: dict[str, str], entry_points: dict[str, dict[str, str]]
) -> Path:
    """Write the modules {file name: source} and entry points {group: {name: value}} of a package; returns `folder`."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in points.items())])
        for group, points in entry_points.items()
    )
    (metadata / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    for file, source in modules.items():
        (folder / file).write_text(source)
    return folder
