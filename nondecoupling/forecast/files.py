"""Tables of responses and rewards, as files hold them, gathered by prompt."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nondecoupling.estimate.arguments import shown
from nondecoupling.forecast.refusals import RepeatedPrompts

# (prompt, reward): one's own file, and what verl dumps.
KNOWN_COLUMNS = (("prompt", "reward"), ("input", "score"))

Table = list[dict[str, Any]]


@dataclass
class Rows:
    """One entry for each prompt, in order of first appearance."""

    prompts: list[Hashable]
    rewards: list[list[float]]
    expert_rewards: list[list[float]] | None


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
    prompt: str | None,
    reward: str | None,
    expert_reward: str | None,
) -> Rows:
    """The rewards of each prompt's rows together."""
    if not table:
        raise ValueError(f"{path} is empty: give one row for each response or prompt")
    prompt, reward = _columns(table[0], path, prompt, reward)
    wanted = [prompt, reward] + ([expert_reward] if expert_reward else [])
    rewards: dict[str, list[float]] = {}
    experts: dict[str, list[float]] = {}
    complete: set[str] = set()
    for place, row in enumerate(table, start=1):
        for column in wanted:
            if column not in row:
                raise ValueError(
                    f"{path}, row {place}: no column {column!r}; it has {', '.join(map(repr, row))}"
                )
        label = _label(row[prompt])
        if label in complete or (label in rewards and isinstance(row[reward], list)):
            raise RepeatedPrompts(
                f"{path}, row {place}: prompt {shown(label)} was complete before; give a prompt's rewards in one list, "
                "or one row for each response"
            )
        if isinstance(row[reward], list):
            complete.add(label)
        rewards.setdefault(label, []).extend(_numbers(row[reward], reward, path, place))
        if expert_reward:
            found = _numbers(row[expert_reward], expert_reward, path, place)
            experts.setdefault(label, []).extend(found)
    expert_rows = list(experts.values()) if expert_reward else None
    return Rows(list(rewards), list(rewards.values()), expert_rows)


def _columns(
    first: dict[str, Any], path: str | Path, prompt: str | None, reward: str | None
) -> tuple[str, str]:
    for known_prompt, known_reward in KNOWN_COLUMNS:
        names = prompt or known_prompt, reward or known_reward
        if set(names) <= set(first):
            return names
    raise ValueError(
        f"{path} has the columns {', '.join(map(repr, first))}: name those of the prompt and its reward, as "
        "prompt='question', reward='accuracy'"
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
