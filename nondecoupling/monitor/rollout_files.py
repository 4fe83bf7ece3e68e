"""Rollouts of a run as trainers write them down, gathered by step and prompt.

TRL's ``log_completions`` writes Parquet files ``completions_00020.parquet`` (step, prompt, completion, a column for
each reward function, advantage); verl dumps ``20.jsonl`` (input, output, score, step). Other columns are named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nondecoupling.estimate import cluster_means
from nondecoupling.estimate.arguments import (
    Array,
    GivenArgument,
    NamesArguments,
    shown,
    whole_number,
)
from nondecoupling.forecast.files import Table, label_in, read_table

__all__ = ["Rollouts", "read_rollouts"]

SUFFIXES = (".parquet", ".jsonl")
# In TRL's output_dir.
COMPLETIONS = "completions"
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

    A folder without such files may be TRL's ``output_dir``: then they are those in its folder ``completions``.
    ``rewards``: columns that are added up. The step is the column ``step``, or the number at the end of a file's name.
    None and NaN say nothing, as in a training: the other columns count, and a row, or a step, of which no column says
    anything is left out.

    Errors: no file, a folder without any, a file of another kind, columns that are not there or not clear, prompts that
    are neither texts nor chat messages nor, all of them, whole numbers, rewards that are no numbers, steps that are no
    whole numbers.
    """
    found: dict[int, tuple[list[str | int], list[float]]] = {}
    here: str | int | None = None
    files, rows = _files(paths), 0
    for path in files:
        table = read_table(path)
        rows += len(table)
        if not table:
            continue
        label, columns = _prompt(table, path, prompt), _rewards(table, path, rewards)
        step_of_file = None if "step" in _columns(table) else _step_in_name(path)
        for place, row in enumerate(table, start=1):
            here = label_in(row.get(label), label, path, place, here)
            given = [_number(row, column, path, place) for column in columns]
            said = [number for number in given if number is not None]
            if not said:
                continue
            step = _step(row, path, place) if step_of_file is None else step_of_file
            prompts, values = found.setdefault(step, ([], []))
            prompts.append(here)
            values.append(sum(said))
    if not found:
        names = " to ".join(dict.fromkeys(map(str, (files[0], files[-1]))))
        if not rows:
            raise ValueError(
                f"{names}: no rollouts, as there are no rows; give files that a trainer wrote"
            )
        raise NamesArguments(
            f"{names}: no rollouts with a reward, as each row says None or NaN of it; name another column, as ",
            GivenArgument("rewards", ["accuracy"]),
        )
    return [
        Rollouts(step, np.asarray(cluster_means(values, prompts)))
        for step, (prompts, values) in sorted(found.items())
    ]


def _files(paths: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _files_in(path)
        elif not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; give what a trainer wrote")
        elif path.suffix not in SUFFIXES:
            raise ValueError(
                f"{path}: give .parquet or .jsonl files (JSON lines, not compressed), or a folder of them"
            )
        else:
            found.append(path)
    if not found:
        raise ValueError("paths is empty: give files that a trainer wrote, or their folder")
    return found


def _files_in(folder: Path) -> list[Path]:
    for place in (folder, folder / COMPLETIONS):
        if place.is_dir() and (
            found := sorted(file for file in place.iterdir() if file.suffix in SUFFIXES)
        ):
            return found
    within = sorted(file.name for file in folder.iterdir())
    has = ", ".join(within[:3] + ["..."] * (len(within) > 3)) or "nothing"
    raise ValueError(
        f"{folder}: no .parquet or .jsonl files in this folder, which has {has}; TRL writes them into "
        f"{COMPLETIONS} in its output_dir where log_completions=True, verl into its rollout_data_dir"
    )


def _columns(table: Table) -> list[str]:
    """Of all rows: one row alone may lack some."""
    return list(dict.fromkeys(name for row in table for name in row))


def _prompt(table: Table, path: Path, given: str | None) -> str:
    columns = _columns(table)
    names = [given] if given else [name for name in PROMPTS if name in columns]
    if not names or names[0] not in columns:
        raise NamesArguments(
            f"{_has(path, columns, [given])}: name that of the prompt, as ",
            GivenArgument("prompt", "question"),
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
        raise NamesArguments(
            f"{_has(path, columns, given)}: name that of the reward, or several to add them up, as ",
            GivenArgument("rewards", ["accuracy"]),
        )
    return names


def _has(path: Path, columns: Sequence[str], given: Iterable[str | None]) -> str:
    """Its columns, and which of the names that were given are none."""
    missing = [name for name in given if name and name not in columns]
    gone = f", and no {', '.join(map(repr, missing))}" if missing else ""
    return f"{path} has the columns {', '.join(map(repr, columns))}{gone}"


def _step_in_name(path: Path) -> int:
    number = re.search(r"(\d+)$", path.stem)
    if not number:
        raise ValueError(
            f"{path}: no column 'step' and no number at the end of the file's name; rename it, as 20{path.suffix}"
        )
    return int(number[1])


def _step(row: dict[str, Any], path: Path, place: int) -> int:
    """Also 20.0, as tables hold whole numbers next to missing ones, and "20"."""
    value = row.get("step")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    try:
        return whole_number("step", value, 0)
    except ValueError:
        raise ValueError(
            f"{path}, row {place}, step={shown(value)}: give the step as a whole number in every row, or leave the "
            "column out and put it into the file's name"
        ) from None


def _number(row: dict[str, Any], column: str, path: Path, place: int) -> float | None:
    value = row.get(column)
    if value is None or value != value:
        return None
    try:
        number = float(value) if isinstance(value, (bool, int, float)) else math.nan
    except OverflowError:  # JSON has whole numbers of any size
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            f"{path}, row {place}, {column}={shown(value)}: give a finite number, one row for each response"
        )
    return number
