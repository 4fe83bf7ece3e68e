"""The file of scored responses of a start policy: ``lm.collect`` writes it, ``forecast`` and ``monitor`` read it.

A Parquet file with one row for each prompt. Its columns, each but the first two a list with one entry for a response:

    prompt, prompt_tokens                       the text (chat messages: as JSON), and what the model saw
    response, response_tokens, reward, log_ref  responses of the start policy, their rewards and log-probabilities
    expert_response, ..., expert_log_ref        the same of expert responses, where there are any
    log_p_NAME, expert_log_p_NAME               log-probabilities under a later checkpoint, from ``lm.score``

What made it is in the file's metadata: ``Origin``. Reading needs pyarrow.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nondecoupling.estimate.arguments import Array, checked_bounds, shown
from nondecoupling.forecast import Samples
from nondecoupling.forecast.files import no_parquet

if TYPE_CHECKING:
    import pyarrow

__all__ = ["CollectedSamples", "Origin", "prompt_label"]

KEY = b"nondecoupling"
FORMAT = "nondecoupling samples 1"
LATER = "log_p_"
NEEDED = ("prompt", "reward", "log_ref")
OF_EXPERTS = ("expert_reward", "expert_log_ref")
# What JSON makes of the types of ``Origin``; tuples are lists there.
OF_JSON = {"str": str, "int": int, "dict[str, Any]": dict}


def prompt_label(prompt: Any) -> str:
    """What a prompt is called in files: its text; chat messages as JSON.

    >>> prompt_label([{"role": "user", "content": "Is it red?"}])
    '[{"content": "Is it red?", "role": "user"}]'
    """
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


@dataclass(frozen=True)
class Origin:
    """Model and settings that a file comes from.

    ``model`` describes the model; the digests are those of its weights, of its tokenizer and of prompts and experts;
    ``rewards`` are the names of the reward functions, ``rewards_digest`` that of their source and of the values
    that they were made with, empty where these cannot be compared; ``chat_template_kwargs`` are the further arguments
    that the chat template got.
    """

    model: str
    model_digest: str
    tokenizer_digest: str
    prompts_digest: str
    responses: int
    max_tokens: int
    seed: int
    rows_at_once: int
    reward_bounds: tuple[float, float]
    rewards: tuple[str, ...]
    rewards_digest: str
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, place: str | Path) -> Origin:
        """
        Errors: text of another kind; a value of another type; bounds that are none.
        """
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError(f"{place}: not what lm.collect writes ({FORMAT})")
        content.setdefault("chat_template_kwargs", {})  # collect had no such option before
        names = {one.name for one in dataclasses.fields(cls)}
        if content.keys() != names:
            differ = ", ".join(sorted(content.keys() ^ names))
            raise ValueError(
                f"{place}: not what this version of lm.collect writes (they differ in {differ}); collect again"
            )
        for one in dataclasses.fields(cls):
            value = content[one.name]
            if not isinstance(value, OF_JSON.get(str(one.type), list)):
                raise ValueError(
                    f"{place}: {one.name}={shown(value)} is not what lm.collect writes; collect again"
                )
        try:
            content["reward_bounds"] = checked_bounds("reward_bounds", content["reward_bounds"])
        except ValueError as error:
            raise ValueError(f"{place}: {error}; collect again") from None
        content["rewards"] = tuple(content["rewards"])
        return cls(**content)


class CollectedSamples:
    """What ``lm.collect`` wrote. Arrays are [prompts, responses]; log-probabilities in nats per response."""

    def __init__(self, table: pyarrow.Table, origin: Origin) -> None:
        self.table, self.origin = table, origin

    @classmethod
    def read(cls, path: str | Path) -> CollectedSamples:
        """The file at ``path``.

        Errors: no such file, one that is no Parquet file, or not as ``lm.collect`` writes it; no pyarrow.
        """
        parquet = _parquet()
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such file; lm.collect makes it")
        if Path(path).is_dir():
            raise ValueError(f"{path} is a folder: give the file that lm.collect wrote")
        try:
            table = parquet.read_table(path)
        except Exception as error:  # pyarrow's own, of many families
            raise ValueError(
                no_parquet(Path(path), error, "give the file that lm.collect wrote")
            ) from error
        found = (table.schema.metadata or {}).get(KEY)
        if found is None:
            raise ValueError(
                f"{path}: not written by lm.collect (columns {', '.join(table.column_names)}): collect the samples; "
                "for a forecast alone read it with forecast.Samples.from_parquet"
            )
        origin = Origin.from_json(found, path)
        missing = [name for name in NEEDED if name not in table.column_names]
        if missing or not table.num_rows:
            what = f"no column {', '.join(map(repr, missing))}" if missing else "no rows"
            raise ValueError(f"{path}: {what}; lm.collect wrote some: collect again")
        of_experts = [name for name in OF_EXPERTS if name in table.column_names]
        if len(of_experts) == 1:
            raise ValueError(
                f"{path}: a column {of_experts[0]!r}, but not both of {' and '.join(OF_EXPERTS)}; take it away, or "
                "collect with experts"
            )
        return cls(table, origin)

    def write(self, path: str | Path) -> None:
        """Replaces the file at ``path`` in one step."""
        place = Path(path)
        unfinished = place.with_name(f".{place.name}.{os.getpid()}")
        table = self.table.replace_schema_metadata({KEY: self.origin.to_json()}).combine_chunks()
        _parquet().write_table(table, unfinished)
        unfinished.replace(place)

    @cached_property
    def prompts(self) -> list[str]:
        return list(self.table["prompt"].to_pylist())

    @cached_property
    def rewards(self) -> Array:
        return self._numbers("reward")

    @cached_property
    def log_ref(self) -> Array:
        return self._numbers("log_ref")

    @property
    def has_experts(self) -> bool:
        return "expert_reward" in self.table.column_names

    @property
    def later(self) -> list[str]:
        """Names of the later checkpoints in the file."""
        names = self.table.column_names
        return [name.removeprefix(LATER) for name in names if name.startswith(LATER)]

    def log_p(self, name: str | int) -> Array:
        """Log-probabilities of the start policy's responses under a later checkpoint, by the name ``lm.score`` got.

        Errors: none of that name.
        """
        if str(name) not in self.later:
            raise ValueError(
                f"name={shown(name)}: the file has {', '.join(self.later) or 'no later checkpoint'}; add it with "
                "lm.score"
            )
        return self._numbers(f"{LATER}{name}")

    def with_later(self, name: str, log_p: Array, expert_log_p: Array | None) -> CollectedSamples:
        """With the log-probabilities of one more checkpoint."""
        table = self.table.append_column(f"{LATER}{name}", [log_p.tolist()])
        if expert_log_p is not None:
            table = table.append_column(f"expert_{LATER}{name}", [expert_log_p.tolist()])
        return CollectedSamples(table, self.origin)

    def tokens(self, row: int, *, experts: bool = False) -> tuple[list[int], list[list[int]]]:
        """Of the prompt in a row, and of the responses to it."""
        responses = self.table["expert_tokens" if experts else "response_tokens"]
        return self.table["prompt_tokens"][row].as_py(), responses[row].as_py()

    def samples(self) -> Samples:
        """For ``forecast``; without log-probabilities where one of them is not finite.

        Errors: as ``Samples``.
        """
        experts = self.has_experts
        return Samples(
            self.rewards,
            reward_bounds=self.origin.reward_bounds,
            ref_log_probs=_if_finite(self.log_ref),
            expert_rewards=self._numbers("expert_reward") if experts else None,
            expert_log_ref=_if_finite(self._numbers("expert_log_ref")) if experts else None,
            prompt_ids=self.prompts,
        )

    def __repr__(self) -> str:
        rows, columns = self.rewards.shape
        return (
            f"CollectedSamples({rows} prompts, {columns} responses to each, of {self.origin.model})"
        )

    def _numbers(self, column: str) -> Array:
        try:
            return np.array(self.table[column].to_pylist(), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the column {column!r} is not as lm.collect wrote it, with as many numbers in each row ({error}); "
                "collect again"
            ) from error


def _if_finite(log_probs: Array) -> Array | None:
    return log_probs if np.isfinite(log_probs).all() else None


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError("files of collected samples need pyarrow: pip install pyarrow") from None
    return parquet
