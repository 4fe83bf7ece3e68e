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

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.estimate import cluster_means
from nondecoupling.estimate.arguments import (
    Array,
    GivenArgument,
    NamesArguments,
    checked_bounds,
    finite_array,
    onto_bounds,
    shown,
    whole_number,
)
from nondecoupling.forecast import RewardOutsideBounds
from nondecoupling.forecast.files import (
    NUMBERS,
    PROMPTS,
    STEPS,
    Row,
    StepColumn,
    Table,
    column_names,
    known_columns,
    label_in,
    number_of,
    read_table,
    step_columns,
    step_in,
)

__all__ = ["Rollouts", "read_rollouts", "sum_of_columns"]

SUFFIXES = (".parquet", ".jsonl")
# In TRL's output_dir.
COMPLETIONS = "completions"
# What TRL writes next to the rewards, and verl next to the score.
NO_REWARDS = {*STEPS, *PROMPTS, "completion", "advantage", "images", "output", "gts"}


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
    reward_weights: Sequence[float] | None = None,
    reward_bounds: ArrayLike | None = None,
) -> list[Rollouts]:
    """Of each step in some files, or in all ``.parquet`` and ``.jsonl`` files of a folder; in order of steps.

    A folder without such files may be TRL's ``output_dir``: then they are those in its folder ``completions``.
    ``rewards``: columns that are added up, with TRL's ``reward_weights`` in the same order, where it has any. Without
    names they are ``prompt`` and ``reward``, or ``input`` and ``score`` as verl dumps them, or the one of a reward
    function as TRL writes it. The step is the column ``step``; or another count of steps that is the same whole number
    in all rows, as ``global_step``, but no epoch; or the number at the end of a file's name.
    None and NaN say nothing, as in a training: the other columns count, and a row, or a step, of which no column says
    anything is left out. ``reward_bounds``: of the samples; the reward of every row, added up, must lie in them, and
    one that is beyond them by float32's rounding, 2^-23 of the sizes added up or of the bounds, is put onto them.

    Errors: no file, a folder without any, a file of another kind, columns that are not there or not clear, prompts that
    are neither texts nor chat messages nor, all of them, whole numbers, rewards that are no numbers or outside the
    bounds, weights that are not as many as ``rewards``, steps that are no whole numbers, several policies in one step,
    a file called by one step whose rows say another.
    """
    weights = _weights(rewards, reward_weights)
    bounds = None if reward_bounds is None else checked_bounds("reward_bounds", reward_bounds)
    found: dict[int, tuple[list[str | int], list[float]]] = {}
    here: str | int | None = None
    files, rows = _files(paths), 0
    for path in files:
        table = read_table(path)
        rows += len(table)
        if not table:
            continue
        label, columns = _columns(table, path, prompt, rewards)
        factors = weights or [1.0] * len(columns)
        step_of_file = None if "step" in column_names(table) else _step_of_file(table, path)
        for place, row in enumerate(table, start=1):
            here = label_in(row.get(label), label, path, place, here)
            given = [_number(row, column, path, place) for column in columns]
            said = [
                f * number for f, number in zip(factors, given, strict=True) if number is not None
            ]
            if not said:
                continue
            total = math.fsum(said)
            if bounds is not None and not bounds[0] <= total <= bounds[1]:
                total = float(onto_bounds(total, bounds, math.fsum(map(abs, said))))
                if total not in bounds:
                    what = f"{path}, row {place}, {sum_of_columns(columns, weights)}={total}"
                    raise _outside(what, bounds)
            step = _step(row, path, place) if step_of_file is None else step_of_file
            prompts, values = found.setdefault(step, ([], []))
            prompts.append(here)
            values.append(total)
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


def sum_of_columns(columns: Sequence[str], weights: Sequence[float]) -> str:
    """As it is written down.

    >>> sum_of_columns(["right", "short"], [2.0, 0.5])
    '2 * right + 0.5 * short'
    """
    if not weights:
        return " + ".join(columns)
    return " + ".join(f"{w:g} * {name}" for w, name in zip(weights, columns, strict=True))


def _weights(rewards: Sequence[str], given: Sequence[float] | None) -> list[float]:
    """None where each reward counts once."""
    if given is None:
        return []
    weights = finite_array("reward_weights", given)
    if weights.shape != (len(rewards),):
        raise ValueError(
            f"reward_weights={shown(given)} for {len(rewards)} column{'s' * (len(rewards) != 1)}: name one for each "
            "as rewards, in the order of the weights"
        )
    return [float(weight) for weight in weights]


def _outside(what: str, bounds: tuple[float, float]) -> RewardOutsideBounds:
    return RewardOutsideBounds(
        f"{what}: outside ",
        GivenArgument("reward_bounds", bounds),
        " of the samples; name the column of the reward that these have, as ",
        GivenArgument("rewards", ["accuracy"]),
        ", or make them again, with this reward and bounds that hold for every possible response",
    )


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


def _columns(
    table: Table, path: Path, prompt: str | None, rewards: Sequence[str]
) -> tuple[str, list[str]]:
    """That of the prompt, and those whose sum is the reward."""
    columns = column_names(table)
    known = _known(table, path, prompt, rewards)
    if known is not None:
        label, names = known[0], list(rewards) or [known[1]]
    else:
        names = list(rewards) or [name for name in _of_functions(table) if name != prompt]
        known = _known(table, path, prompt, names)
        unnamed = next((name for name in PROMPTS if name in columns), PROMPTS[0])
        label = known[0] if known else prompt or unnamed
    if label not in columns:
        raise NamesArguments(
            f"{_has(path, columns, [prompt])}: name that of the prompt, as ",
            GivenArgument("prompt", "question"),
        )
    if any(name not in columns for name in names) or (len(names) != 1 and not rewards):
        raise NamesArguments(
            f"{_has(path, columns, rewards)}: name that of the reward, or several to add them up, as ",
            GivenArgument("rewards", ["accuracy"]),
        )
    return label, names


def _known(
    table: Table, path: Path, prompt: str | None, rewards: Sequence[str]
) -> tuple[str, str] | None:
    first = rewards[0] if rewards else None
    return known_columns(table, path, prompt, first, lambda name: GivenArgument("rewards", [name]))


def _of_functions(table: Table) -> list[str]:
    """TRL's columns have the names of reward functions, which may say None of some responses."""
    numbers = {n for row in table for n, value in row.items() if isinstance(value, NUMBERS)}
    return [name for name in column_names(table) if name in numbers - NO_REWARDS]


def _has(path: Path, columns: Sequence[str], given: Iterable[str | None]) -> str:
    """Its columns, and which of the names that were given are none."""
    missing = [name for name in given if name and name not in columns]
    gone = f", and no {', '.join(map(repr, missing))}" if missing else ""
    return f"{path} has the columns {', '.join(map(repr, columns))}{gone}"


def _step_of_file(table: Table, path: Path) -> int:
    """What its rows say, or the number at the end of its name, if they are of one policy."""
    counts = step_columns(table)
    for column in counts:
        if len(column.values) > 1:
            raise ValueError(
                f"{path}, {column}: rollouts of several policies; call that column 'step', or give a file for each; "
                "rename it if it counts no steps of training"
            )
    within = next((column for column in counts if _counts_steps(column)), None)
    if within is None:
        number = re.search(r"(\d+)$", path.stem)
        if not number:
            raise ValueError(
                f"{path}: no column 'step' and no number at the end of the file's name; rename it, as 20{path.suffix}"
            )
        return int(number[1])
    step: int = within.values[0]
    # verl calls a file by its step alone; other numbers are also those of processes.
    if path.stem.isdecimal() and int(path.stem) != step:
        raise ValueError(
            f"{path}, {within}: the file's name says step {int(path.stem)}; rename it, as {step}{path.suffix}, or that "
            "column if it counts no steps of training"
        )
    return step


def _counts_steps(column: StepColumn) -> bool:
    (value,) = column.values
    return column.name != "epoch" and type(value) is int and value >= 0


def _step(row: Row, path: Path, place: int) -> int:
    value = row.get("step")
    try:
        return whole_number("step", step_in(value), 0)
    except ValueError:
        raise ValueError(
            f"{path}, row {place}, step={shown(value)}: give the step as a whole number in every row, or leave the "
            "column out and put it into the file's name"
        ) from None


def _number(row: Row, column: str, path: Path, place: int) -> float | None:
    value = row.get(column)
    if value is None or value != value:
        return None
    number = number_of(value)
    if not math.isfinite(number):
        raise ValueError(
            f"{path}, row {place}, {column}={shown(value)}: give a finite number, one row for each response"
        )
    return number
