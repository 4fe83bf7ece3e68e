"""What the reports of both protocols share: their JSON, and the files that are written in one order."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nondecoupling.estimate import Interval
from validate.disk import replace_file
from validate.run_folder import RunFolder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Change", "Reached", "strict_json", "write_files", "write_table"]


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


@dataclass(frozen=True)
class Change:
    """What RL or joint training did in one stage, next to what the theory predicts of the exact optimum."""

    stage: str
    statement: str
    loss_change: float
    predicted_loss_change: float
    reward: float
    predicted_reward: float

    def as_json(self) -> dict[str, str | float]:
        return {
            "stage": self.stage,
            "statement": self.statement,
            "loss_change": self.loss_change,
            "predicted_loss_change": self.predicted_loss_change,
            "J": self.reward,
            "predicted_J": self.predicted_reward,
        }


def strict_json(value: Any) -> Any:
    """The value without infinities, which JSON lacks, and without NumPy's numbers."""
    if isinstance(value, dict):
        return {key: strict_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(item) for item in value]
    if isinstance(value, float | np.floating | np.ndarray):
        value = float(value)
        return value if math.isfinite(value) else str(value)
    return value


def write_files(
    folder: RunFolder, images: Mapping[str, str], html: str, report: Mapping[str, Any]
) -> None:
    """report.json comes last: where it exists, the run is complete."""
    for name, content in images.items():
        folder.replace(name, content.encode())
    folder.replace("report.html", html.encode())
    folder.write_report(strict_json(report))


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
