"""Scored responses of a start policy, as a command is told to read them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, TypedDict

from nondecoupling.collected import KEY, CollectedSamples
from nondecoupling.estimate.arguments import GivenArgument, NamesArguments
from nondecoupling.forecast import Samples
from nondecoupling.forecast.files import is_parquet, parquet_metadata, positive_weight_in


class Columns(TypedDict, total=False):
    """Of a file; None where an option does not name one."""

    prompt: str | None
    reward: str | None
    expert_reward: str | None
    log_prob: str | None
    expert_log_prob: str | None
    weight: str | None


# Under the names by which options call them.
COLLECTED_COLUMNS = {
    "prompt": "prompt",
    "reward": "reward",
    "expert_reward": "expert_reward",
    "log_prob": "log_ref",
    "expert_log_prob": "expert_log_ref",
}


@contextmanager
def in_options(**options: str) -> Iterator[None]:
    """Errors that name arguments of Python's name these options of a command.

    Where several options make up an argument, each takes one of its values:

    >>> with in_options(reward_bounds="--reward-low --reward-high"):
    ...     raise NamesArguments(GivenArgument("reward_bounds", (1, 0)), ": low < high")
    Traceback (most recent call last):
    ValueError: --reward-low 1 --reward-high 0: low < high
    """

    def written(given: GivenArgument) -> str:
        if given.argument not in options:
            return str(given)
        option, value = options[given.argument], given.value
        if value is True:
            return option
        many = value if isinstance(value, (list, tuple)) else [value]
        pairs = zip(cycle(option.split()), many, strict=False)
        return " ".join(f"{name} {shlex.quote(str(one))}" for name, one in pairs)

    try:
        yield
    except NamesArguments as error:
        raise ValueError(error.said(written)) from error


@dataclass(frozen=True)
class SamplesFile:
    """A file of scored responses, and what the options of a command say of it.

    ``prefix``: of the options that choose columns and rows, where others have the plain names.
    """

    path: Path
    low: float | None
    high: float | None
    columns: Columns
    step: int | None
    ragged: bool
    prefix: str = ""

    def read(self) -> CollectedSamples | Samples:
        """With its scores where ``collect`` wrote it: such a file says of itself what options say of others.

        Errors: as ``Samples.from_jsonl``, in options of the command; bounds that neither they nor the file give;
        options that contradict what ``collect`` wrote.
        """
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file; nondecoupling collect makes it")
        with self._naming_file():
            parquet = is_parquet(self.path)
            if parquet and KEY in parquet_metadata(self.path):
                found = self._collected()
                found.samples()  # what is wrong with them is said here, with the file's name
                return found
            read = Samples.from_parquet if parquet else Samples.from_jsonl
            bounds = self._bounds()
        with self._naming_file(), in_options(**self._options()):
            return read(
                self.path,
                reward_bounds=bounds,
                ragged=self.ragged,
                step=self.step,
                **self.columns,
            )

    def samples(self) -> Samples:
        """For a forecast. Errors: as ``read``."""
        found = self.read()
        if isinstance(found, Samples):
            return found
        weight = self.columns.get("weight")
        if weight is None:
            return found.samples()
        columns = found.table.column_names
        if weight not in columns:
            raise ValueError(
                f"--weight {weight}: {self.path} has no column {weight!r}; it has {', '.join(map(repr, columns))}"
            )
        with self._naming_file(), in_options(**self._options()):
            weights = [
                positive_weight_in(cell, weight, self.path, place)
                for place, cell in enumerate(found.table[weight].to_pylist(), start=1)
            ]
            return Samples(**found.samples().to_dict() | {"weights": weights})

    def _options(self) -> dict[str, str]:
        named = (*COLLECTED_COLUMNS, "weight", "step", "ragged")
        own = {name: self._option(name) for name in named}
        return own | {"reward_bounds": "--reward-low --reward-high"}

    def _option(self, name: str) -> str:
        return f"--{self.prefix}{name.replace('_', '-')}"

    @contextmanager
    def _naming_file(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if str(self.path) in str(error):
                raise
            raise ValueError(f"{self.path}: {error}") from error

    def _bounds(self) -> tuple[float, float]:
        ends = {"low": self.low, "high": self.high}
        missing = [f"--reward-{end}" for end, value in ends.items() if value is None]
        if self.low is None or self.high is None:
            raise ValueError(
                f"{self.path}: give {' and '.join(missing)}, the bounds of the reward; only a file that collect wrote "
                "says them"
            )
        return self.low, self.high

    def _collected(self) -> CollectedSamples:
        found = CollectedSamples.read(self.path)
        low, high = found.origin.reward_bounds
        for end, given, known in (("low", self.low, low), ("high", self.high, high)):
            if given is not None and given != known:
                raise ValueError(
                    f"--reward-{end} {given:g}: {self.path} was collected with rewards from {low:g} to {high:g}; leave "
                    "the option away, or collect again"
                )
        columns: dict[str, Any] = {**self.columns}
        for name, own in COLLECTED_COLUMNS.items():
            column = columns.get(name)
            if column not in (None, own):
                raise ValueError(
                    f"{self._option(name)} {column}: {self.path} was written by collect, which calls that column "
                    f"{own!r}; leave the option away, or give a table of your own"
                )
            if column is not None and column not in found.table.column_names:
                raise ValueError(
                    f"{self._option(name)} {column}: {self.path} was collected without experts; leave the option away, "
                    "or collect with --experts"
                )
        if self.step is not None:
            raise ValueError(
                f"{self._option('step')} {self.step}: {self.path} was written by collect, all of it from the start "
                "policy; leave the option away"
            )
        return found
