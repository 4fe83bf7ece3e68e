"""Tables of responses and rewards, as files hold them, gathered by prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Required, TypedDict

from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import shown
from nondecoupling.forecast.refusals import RepeatedPrompts

# (prompt, reward): one's own file, and what verl dumps.
KNOWN_COLUMNS = (("prompt", "reward"), ("input", "score"))
# Columns with one number for each response, under the names by which callers name them.
EXTRA_COLUMNS = ("log_prob", "expert_reward", "expert_log_prob")

Table = list[dict[str, Any]]


class FileOptions(TypedDict, total=False):
    """How ``Samples.from_jsonl`` and ``from_parquet`` read a file; columns that are not named are not read."""

    reward_bounds: Required[ArrayLike]
    ragged: bool
    prompt: str | None
    reward: str | None
    log_prob: str | None
    expert_reward: str | None
    expert_log_prob: str | None
    weight: str | None


@dataclass
class Rows:
    """One entry for each prompt, in order of first appearance; what no column was named for is None."""

    prompts: list[Hashable]
    rewards: list[list[float]]
    extra: dict[str, list[list[float]] | None]
    weights: list[float] | None


@dataclass
class OfPrompt:
    """What the rows of one prompt say."""

    rewards: list[float] = field(default_factory=list)
    extra: dict[str, list[float]] = field(default_factory=dict)
    weight: float | None = None
    complete: bool = False


def read_jsonl(path: Path) -> Table:
    table = []
    with path.open(encoding="utf-8") as lines:
        for place, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {place}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {place}={shown(row)}: give one object on each line")
            table.append(row)
    return table


def read_parquet(path: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            "from_parquet needs pyarrow: pip install pyarrow, or write the table as JSON lines for from_jsonl"
        ) from None
    rows: Table = parquet.read_table(path).to_pylist()
    return rows


def gathered(
    table: Table,
    path: str | Path,
    *,
    prompt: str | None = None,
    reward: str | None = None,
    weight: str | None = None,
    **extra: str | None,
) -> Rows:
    """The numbers of each prompt's rows together; the names are those of the columns."""
    if not table:
        raise ValueError(f"{path} is empty: give one row for each response or prompt")
    prompt, reward = _columns(table[0], path, prompt, reward)
    named = {name: column for name in EXTRA_COLUMNS if (column := extra.pop(name, None))}
    if extra:
        raise TypeError(f"{', '.join(extra)}: no such column; name {', '.join(EXTRA_COLUMNS)}")
    found: dict[str, OfPrompt] = {}
    for place, row in enumerate(table, start=1):
        for column in (prompt, reward, *named.values(), *([weight] if weight else [])):
            if column not in row:
                raise ValueError(
                    f"{path}, row {place}: no column {column!r}; it has {', '.join(map(repr, row))}"
                )
        label, many = _label(row[prompt]), isinstance(row[reward], list)
        here = found.setdefault(label, OfPrompt())
        if here.complete or (here.rewards and many):
            raise RepeatedPrompts(
                f"{path}, row {place}: prompt {shown(label)} was complete before; give a prompt's rewards in one list, "
                "or one row for each response"
            )
        here.complete = many
        here.rewards.extend(_numbers(row[reward], reward, path, place))
        for name, column in named.items():
            here.extra.setdefault(name, []).extend(_numbers(row[column], column, path, place))
        if weight:
            (number,) = _numbers(row[weight], weight, path, place)[:1] or [math.nan]
            if here.weight not in (None, number):
                raise ValueError(
                    f"{path}, row {place}, {weight}={number:g}: prompt {shown(label)} had {here.weight:g}; a weight "
                    "is that of a prompt"
                )
            here.weight = number
    groups = list(found.values())
    return Rows(
        list(found),
        [group.rewards for group in groups],
        {n: [g.extra[n] for g in groups] if n in named else None for n in EXTRA_COLUMNS},
        [g.weight for g in groups if g.weight is not None] if weight else None,
    )


def _columns(
    first: dict[str, Any], path: str | Path, prompt: str | None, reward: str | None
) -> tuple[str, str]:
    for known_prompt, known_reward in KNOWN_COLUMNS:
        names = prompt or known_prompt, reward or known_reward
        if set(names) <= set(first):
            return names
    missing = [name for name in (prompt, reward) if name is not None and name not in first]
    gone = f", and no {', '.join(map(repr, missing))}" if missing else ""
    raise ValueError(
        f"{path} has the columns {', '.join(map(repr, first))}{gone}: name those of the prompt and its reward, as "
        "prompt='question', reward='accuracy' (--prompt, --reward)"
    )


def _label(prompt: Any) -> str:
    """Chat messages are a prompt too."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def _numbers(cell: Any, column: str, path: str | Path, place: int) -> list[float]:
    values = cell if isinstance(cell, list) else [cell]
    for value in values:
        if not isinstance(value, (bool, int, float)):
            raise ValueError(
                f"{path}, row {place}, {column}={shown(value)}: give a number or a list of numbers"
            )
    return [float(value) for value in values]
