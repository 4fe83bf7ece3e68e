"""What the reports of both protocols share: their JSON, and the files that are written in one order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from validate.run_folder import RunFolder

__all__ = ["Change", "strict_json", "write_files"]


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
