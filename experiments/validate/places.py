"""Where run folders lie: a free place for a new run, the newest run, and the complete ones below a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from validate.errors import RunError, RunFolderError

__all__ = ["complete_runs", "free_folder", "newest_folder"]

DEFAULT_PARENT = Path("runs")


def free_folder(name: str) -> Path:
    """``runs/<name>-1``, or with the first number that is free."""
    number = 1
    while (folder := DEFAULT_PARENT / f"{name}-{number}").exists():
        number += 1
    return folder


def newest_folder(name: str) -> Path:
    """The folder of that name with the highest number.

    Raises:
        RunFolderError: there is none.
    """
    folders = [
        folder
        for folder in DEFAULT_PARENT.glob(f"{name}-*")
        if folder.name.removeprefix(f"{name}-").isdigit()
    ]
    if not folders:
        raise RunFolderError(
            f"nothing to resume: no run folder {DEFAULT_PARENT}/{name}-N here; "
            "name it with --out, or leave --resume away"
        )
    return max(folders, key=lambda folder: int(folder.name.removeprefix(f"{name}-")))


def complete_runs(places: Sequence[Path]) -> list[Path]:
    """The complete runs in folders, or below them.

    Raises:
        RunError: there is none in one of them.
    """
    found: list[Path] = []
    for place in places:
        below = sorted(path.parent for path in place.rglob("report.json"))
        below = [path for path in below if (path / "config.json").exists()]
        if not below:
            raise RunError(
                f"{place} has no complete run in it; give folders of qwen_validate.py or sweep.py"
            )
        found += below
    return found
