"""What a GPU session leaves behind: one JSON line per fact, on disk as soon as it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["RowFile", "machine_row", "read_rows"]


class RowFile:
    """Appends rows of one step to a file that several processes share; a row survives whatever comes next."""

    def __init__(self, path: Path, step: str) -> None:
        self.path, self.step = path, step

    def write(self, kind: str, **fields: Any) -> None:
        """One line: the step, ``kind`` and ``fields``. A value JSON cannot hold is written as text."""
        line = json.dumps({"step": self.step, "kind": kind, **fields}, default=str) + "\n"
        with self.path.open("a") as file:
            # A process that was killed in the middle of a line must not spoil the next.
            if file.tell() and not self._ends_a_line():
                file.write("\n")
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """(the rows of ``path``, the number of lines that are none): a killed process leaves half a line."""
    rows, spoilt = [], 0
    for line in path.read_text().splitlines() if path.exists() else ():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            spoilt += 1
            continue
        if isinstance(row, dict) and "kind" in row and "step" in row:
            rows.append(row)
        else:
            spoilt += 1
    return rows, spoilt


def machine_row(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the session ran on, as the first step that got to it wrote it down."""
    found = (row for row in rows if row["kind"] == "row" and row.get("case") == "machine")
    return next(found, None)
