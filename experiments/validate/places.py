"""Where run folders lie: a free place for a new run, and the newest run."""

from __future__ import annotations

from pathlib import Path

from validate.errors import RunFolderError

__all__ = ["free_folder", "newest_folder"]

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
