"""Scored responses of a start policy, as a command is told to read them."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from nondecoupling.collected import KEY, CollectedSamples
from nondecoupling.forecast import Samples
from nondecoupling.forecast.files import parquet_metadata


class Columns(TypedDict):
    """Of a file; None where an option does not name one."""

    prompt: str | None
    reward: str | None
    expert_reward: str | None
    log_prob: str | None
    expert_log_prob: str | None
    weight: str | None


def read_samples(
    path: Path,
    low: float | None,
    high: float | None,
    columns: Columns,
    *,
    ragged: bool = False,
    step: int | None = None,
) -> Samples:
    """The samples in a file; one that ``collect`` wrote says of itself what no option says.

    Errors: as ``Samples.from_jsonl``; bounds that neither the options nor the file give.
    """
    if path.suffix == ".parquet" and KEY in parquet_metadata(path):
        return _collected(path, low, high, columns, step)
    missing = [f"--reward-{end}" for end, value in (("low", low), ("high", high)) if value is None]
    if low is None or high is None:
        raise ValueError(
            f"{path}: give {' and '.join(missing)}, the bounds of the reward; only a file that collect wrote says them"
        )
    read = Samples.from_parquet if path.suffix == ".parquet" else Samples.from_jsonl
    return read(path, reward_bounds=(low, high), ragged=ragged, step=step, **columns)


def _collected(
    path: Path, low: float | None, high: float | None, columns: Columns, step: int | None
) -> Samples:
    collected = CollectedSamples.read(path)
    least, most = collected.origin.reward_bounds
    bounds = (least if low is None else low, most if high is None else high)
    said = collected.samples().to_dict() | {"reward_bounds": bounds}
    if step is not None or any(columns.values()):
        named = Samples.from_parquet(path, reward_bounds=bounds, step=step, **columns).to_dict()
        said |= {name: value for name, value in named.items() if value is not None}
    return Samples(**said)
