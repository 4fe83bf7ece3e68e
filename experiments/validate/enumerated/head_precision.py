"""What the model's head is applied in: from a configuration, and in the first record of a run and its report.

Nothing is recorded where that is float64, as in the runs of earlier versions.
"""

from __future__ import annotations

from dataclasses import asdict, fields

import torch

from nondecoupling.lm.enumerated_law import CheckedPrecision
from validate.configuration import EnumeratedConfiguration
from validate.disk import Line

__all__ = ["about_precision", "checked_precision", "precision_of_run"]

PREFIX = "precision_"


def precision_of_run(config: EnumeratedConfiguration) -> torch.dtype:
    """What the configuration asks to apply the head in."""
    precision: torch.dtype = getattr(torch, config.precision)
    return precision


def about_precision(checked: CheckedPrecision | None) -> dict[str, float]:
    """``checked`` as a record holds it."""
    if checked is None:
        return {}
    return {PREFIX + name: value for name, value in asdict(checked).items()}


def checked_precision(record: Line) -> CheckedPrecision | None:
    """What ``about_precision`` put into a record."""
    names = [one.name for one in fields(CheckedPrecision)]
    if PREFIX + names[0] not in record:
        return None
    return CheckedPrecision(**{name: record[PREFIX + name] for name in names})
