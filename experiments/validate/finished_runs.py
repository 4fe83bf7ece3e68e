"""What the scripts share that read finished runs: their command line, which runs, what was reached, their table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nondecoupling.estimate import Interval
from validate.disk import replace_file
from validate.errors import RunError
from validate.options import folder_path
from validate.reports import strict_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Reached", "complete_runs", "parser_of_runs", "write_table"]


@dataclass(frozen=True)
class Reached:
    """A number of a trained policy, and the ends of its interval where it is an estimate."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Reached:
        return cls(value, value, value)

    @classmethod
    def of(cls, interval: Interval) -> Reached:
        return cls(float(interval.estimate), float(interval.low), float(interval.high))


def parser_of_runs(what: str | None) -> argparse.ArgumentParser:
    """Of the folders to read, and where to write the table; ``what`` is the docstring of the script."""
    parser = argparse.ArgumentParser(description=(what or "").split("\n\n")[0])
    parser.add_argument(
        "runs", nargs="+", type=folder_path, metavar="FOLDER", help="runs, or sweeps"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="also write table.md and outcomes.json"
    )
    return parser


def complete_runs(places: Sequence[Path]) -> list[Path]:
    """The complete runs in folders, or below them, each once, by the first path that leads to it.

    Raises:
        RunError: there is none in one of them.
    """
    found: dict[Path, Path] = {}
    for place in places:
        below = sorted(path.parent for path in place.rglob("report.json"))
        below = [path for path in below if (path / "config.json").exists()]
        if not below:
            raise RunError(
                f"{place} has no complete run in it; give folders of qwen_validate.py or sweep.py"
            )
        for path in below:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def write_table(
    folder: Path,
    table: str,
    outcomes: Sequence[DataclassInstance],
    script: str,
    runs: Sequence[Path],
) -> None:
    """table.md, with the command that made it, and outcomes.json, of what a script says about run folders."""
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python experiments/{script} {' '.join(map(str, runs))}"
    replace_file(folder / "table.md", f"{table}\nMade by `{command}`.\n".encode())
    values = strict_json([asdict(one) for one in outcomes])
    replace_file(folder / "outcomes.json", (json.dumps(values, indent=1) + "\n").encode())
