"""Rollouts of a run as trainers write them down, gathered by step and prompt.

TRL's ``log_completions`` writes Parquet files ``completions_00020.parquet`` (step, prompt, completion, a column for
each reward function, advantage); verl dumps ``20.jsonl`` (input, output, score, step). Other columns are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nondecoupling.collected import prompt_label
from nondecoupling.estimate import cluster_means
from nondecoupling.estimate.arguments import Array, shown
from nondecoupling.forecast.files import Table, read_jsonl, read_parquet

__all__ = ["Rollouts", "read_rollouts"]

READERS = {".jsonl": read_jsonl, ".parquet": read_parquet}
PROMPTS = ("prompt", "input")
REWARDS = ("reward", "score")
# What TRL writes next to the rewards, and verl next to the score.
NO_REWARDS = {"step", "prompt", "completion", "advantage", "images", "input", "output", "gts"}


@dataclass(frozen=True)
class Rollouts:
    """The rewards of one step, averaged by prompt."""

    step: int
    rewards: Array


def read_rollouts(
    paths: Iterable[str | Path],
    *,
    prompt: str | None = None,
    rewards: Sequence[str] = (),
) -> list[Rollouts]:
    """Of each step in some files, or in all ``.parquet`` and ``.jsonl`` files of a folder; in order of steps.

    ``rewards``: columns that are added up. The step is the column ``step``, or the number at the end of a file's name.
    None and NaN say nothing, as in a training: the other columns count, and a row, or a step, of which no column says
    anything is left out.

    Errors: no file, a file of another kind, columns that are not there or not clear, rewards that are no numbers.
    """
    found: dict[int, tuple[list[str], list[float]]] = {}
    for path in _files(paths):
        table = READERS[path.suffix](path)
        if not table:
            continue
        label, columns = _prompt(table, path, prompt), _rewards(table, path, rewards)
        for place, row in enumerate(table, start=1):
            if row.get(label) is None:
                raise ValueError(f"{path}, row {place}: no prompt in the column {label!r}")
            given = [_number(row, column, path, place) for column in columns]
            said = [number for number in given if number is not None]
            if not said:
                continue
            prompts, values = found.setdefault(_step(row, path), ([], []))
            prompts.append(prompt_label(row[label]))
            values.append(sum(said))
    if not found:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no rollouts with a reward; give files that a trainer wrote"
        )
    return [
        Rollouts(step, np.asarray(cluster_means(np.array(values), np.array(prompts))))
        for step, (prompts, values) in sorted(found.items())
    ]


def _files(paths: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix in READERS)
        elif path.suffix not in READERS:
            raise ValueError(f"{path}: give .parquet or .jsonl files, or a folder of them")
        else:
            found.append(path)
    return found


def _columns(table: Table) -> list[str]:
    """Of all rows: one row alone may lack some."""
    return list(dict.fromkeys(name for row in table for name in row))


def _prompt(table: Table, path: Path, given: str | None) -> str:
    columns = _columns(table)
    names = [given] if given else [name for name in PROMPTS if name in columns]
    if not names or names[0] not in columns:
        raise ValueError(
            f"{path} has the columns {', '.join(map(repr, columns))}: name that of the prompt"
        )
    return names[0]


def _rewards(table: Table, path: Path, given: Sequence[str]) -> list[str]:
    columns = _columns(table)
    names = list(given) or [name for name in REWARDS if name in columns][:1]
    if (
        not names
    ):  # TRL's columns have the names of reward functions, which may say None of some responses
        numbers = {
            n for row in table for n, value in row.items() if isinstance(value, (int, float))
        }
        names = [name for name in columns if name in numbers - NO_REWARDS]
    if any(name not in columns for name in names) or (len(names) != 1 and not given):
        raise ValueError(
            f"{path} has the columns {', '.join(map(repr, columns))}: name that of the reward, or several to add them "
            "up"
        )
    return names


def _step(row: dict[str, Any], path: Path) -> int:
    if "step" in row:
        return int(row["step"])
    number = re.search(r"(\d+)$", path.stem)
    if not number:
        raise ValueError(
            f"{path}: no column 'step' and no number at the end of the file's name; rename it, as 20{path.suffix}"
        )
    return int(number[1])


def _number(row: dict[str, Any], column: str, path: Path, place: int) -> float | None:
    value = row.get(column)
    if value is None or value != value:
        return None
    if not isinstance(value, (bool, int, float)) or not np.isfinite(value):
        raise ValueError(f"{path}, row {place}, {column}={shown(value)}: give a finite number")
    return float(value)
