"""What a forecast is made from: rewards of the start policy's responses, and of expert ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import (
    Array,
    checked_bounds,
    finite_array,
    prompt_labels,
    shown,
)
from nondecoupling.forecast import files
from nondecoupling.forecast.refusals import (
    NoSpread,
    RaggedRows,
    RepeatedPrompts,
    RewardOutsideBounds,
    TooFewPrompts,
)

LEAST_PROMPTS = 16
LEAST_RESPONSES = 2


class Samples:
    """Rewards r(x, y) of k responses y ~ ref(.|x) of the start policy to each of n prompts x.

    ``ref_rewards`` has shape ``[n, k]``; ``expert_rewards``, if the SFT loss on expert data is asked for, ``[n, m]``:
    those of m responses of the experts to the same prompts. ``reward_bounds`` (low, high) hold for every possible
    response, not only for those seen. ``prompt_ids``: n labels, whole numbers or strings, no two alike; without them
    nothing checks that no prompt was given twice.

    Assumes that prompts are independent draws from the law in question, and that responses are independent given the
    prompt, drawn from ref itself: temperature 1, no top-k or top-p. Units: those of the reward.

    Errors: ``RewardOutsideBounds``, ``TooFewPrompts``, ``NoSpread``, ``RaggedRows``, ``RepeatedPrompts``; NaN; fewer
    than two responses to a prompt.

    >>> samples = Samples([[0, 1], [1, 1]] * 20, reward_bounds=(0, 1))
    >>> samples
    Samples(40 prompts, 2 responses to each, rewards in (0, 1), mean 0.75)
    >>> Samples([[0, 1], [1, 1]] * 20, reward_bounds=(0, 0.5))
    Traceback (most recent call last):
    nondecoupling.forecast.refusals.RewardOutsideBounds: ref_rewards[0, 1]=1.0: outside reward_bounds=(0.0, 0.5)...
    """

    def __init__(
        self,
        ref_rewards: ArrayLike,
        *,
        reward_bounds: ArrayLike,
        expert_rewards: ArrayLike | None = None,
        prompt_ids: Sequence[Hashable] | None = None,
    ) -> None:
        self.reward_bounds = checked_bounds("reward_bounds", reward_bounds)
        self.ref_rewards = _rewards("ref_rewards", ref_rewards, LEAST_RESPONSES, self.reward_bounds)
        if np.all(self.ref_rewards == self.ref_rewards[:, :1]):
            raise NoSpread(
                "ref_rewards: all responses to each prompt have one reward; RL changes nothing that these samples "
                "could show. Draw more responses, or give prompts of another difficulty"
            )
        self.expert_rewards: Array | None = None
        if expert_rewards is not None:
            self.expert_rewards = _rewards("expert_rewards", expert_rewards, 1, self.reward_bounds)
            if len(self.expert_rewards) != self.prompts:
                raise ValueError(
                    f"expert_rewards has {len(self.expert_rewards)} rows, ref_rewards {self.prompts}: give one row "
                    "for each prompt, in the same order"
                )
        self.prompt_ids: list[Hashable] | None = None
        if prompt_ids is not None:
            self.prompt_ids = prompt_labels("prompt_ids", list(prompt_ids), self.prompts)  # type: ignore[arg-type]
            (label, times), *_ = Counter(self.prompt_ids).most_common(1)
            if times > 1:
                raise RepeatedPrompts(
                    f"prompt_ids: {shown(label)} occurs {times} times; put all responses to a prompt into one row"
                )

    @property
    def prompts(self) -> int:
        return int(self.ref_rewards.shape[0])

    @property
    def responses(self) -> int:
        """To each prompt."""
        return int(self.ref_rewards.shape[1])

    @property
    def spread(self) -> float:
        """high - low of the reward bounds."""
        return self.reward_bounds[1] - self.reward_bounds[0]

    def __repr__(self) -> str:
        low, high = self.reward_bounds
        return (
            f"Samples({self.prompts} prompts, {self.responses} responses to each, rewards in ({low:g}, {high:g}), "
            f"mean {self.ref_rewards.mean():.6g})"
        )

    def in_random_order(self) -> Samples:
        """The same prompts, and responses to each, in an order that no file imposed; the seed is fixed.

        Betting on prompts one by one, parts of the prompts and folds of the responses need an order that says nothing;
        files are often sorted.
        """
        rng = np.random.default_rng(0)
        order = rng.permutation(self.prompts)
        experts, ids = self.expert_rewards, self.prompt_ids
        return Samples(
            rng.permuted(self.ref_rewards[order], axis=1),
            reward_bounds=self.reward_bounds,
            expert_rewards=None if experts is None else experts[order],
            prompt_ids=None if ids is None else [ids[i] for i in order],
        )

    def to_dict(self) -> dict[str, Any]:
        """The arguments, ready for JSON.

        >>> samples = Samples([[0, 1]] * 16, reward_bounds=(0, 1))
        >>> Samples(**samples.to_dict())
        Samples(16 prompts, 2 responses to each, rewards in (0, 1), mean 0.5)
        """
        experts = self.expert_rewards
        return {
            "ref_rewards": self.ref_rewards.tolist(),
            "reward_bounds": list(self.reward_bounds),
            "expert_rewards": None if experts is None else experts.tolist(),
            "prompt_ids": self.prompt_ids,
        }

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        *,
        reward_bounds: ArrayLike,
        prompt: str | None = None,
        reward: str | None = None,
        expert_reward: str | None = None,
    ) -> Samples:
        """Samples from a file with one JSON object on each line.

        ``prompt``, ``reward`` and ``expert_reward`` name its columns. Without the first two they are ``prompt`` and
        ``reward`` or, as verl dumps rollouts, ``input`` and ``score``. Either one line per response, gathered by
        prompt, or one line per prompt whose reward is a list. A dump must come from the start policy alone.

        Errors: as ``Samples``; no such file; a line that is not an object; other columns.

        >>> import json, pathlib, tempfile
        >>> lines = [{"input": f"{x} + 1 =", "output": y, "score": y == x + 1} for x in range(16) for y in (2, 3)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "rollouts.jsonl"
        ...     _ = file.write_text("\\n".join(map(json.dumps, lines)))
        ...     Samples.from_jsonl(file, reward_bounds=(0, 1))
        Samples(16 prompts, 2 responses to each, rewards in (0, 1), mean 0.0625)
        """
        table = files.read_jsonl(Path(path))
        return cls._of(files.gathered(table, path, prompt, reward, expert_reward), reward_bounds)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        reward_bounds: ArrayLike,
        prompt: str | None = None,
        reward: str | None = None,
        expert_reward: str | None = None,
    ) -> Samples:
        """Samples from a Parquet file, with columns as in ``from_jsonl``; needs pyarrow.

        TRL's ``log_completions`` names a reward's column after its function: give that name as ``reward``.

        Errors: as ``from_jsonl``; ``ImportError`` without pyarrow.
        """
        table = files.read_parquet(Path(path))
        return cls._of(files.gathered(table, path, prompt, reward, expert_reward), reward_bounds)

    @classmethod
    def _of(cls, rows: files.Rows, reward_bounds: ArrayLike) -> Samples:
        return cls(
            rows.rewards,
            reward_bounds=reward_bounds,
            expert_rewards=rows.expert_rewards,
            prompt_ids=rows.prompts,
        )


def _rewards(name: str, values: ArrayLike, least: int, bounds: tuple[float, float]) -> Array:
    """[prompts, responses], within the bounds."""
    if isinstance(values, Sequence):
        _require_even(name, values)
    array = finite_array(name, values)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}: give [prompts, responses]")
    if array.shape[0] < LEAST_PROMPTS:
        raise TooFewPrompts(
            f"{name} has {array.shape[0]} prompts: give at least {LEAST_PROMPTS}, better some hundreds; more "
            "responses to few prompts do not replace them"
        )
    if array.shape[1] < least:
        raise ValueError(
            f"{name} has {array.shape[1]} responses to a prompt: give at least {least}"
        )
    outside = (array < bounds[0]) | (array > bounds[1])
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise RewardOutsideBounds(
            f"{name}[{row}, {column}]={array[row, column]}: outside reward_bounds={bounds}; give bounds that hold "
            "for every possible response"
        )
    return array


def _require_even(name: str, rows: Sequence[Any]) -> None:
    lengths = [np.size(row) for row in rows]
    if len(set(lengths)) > 1:
        other = next(place for place, length in enumerate(lengths) if length != lengths[0])
        raise RaggedRows(
            f"{name}[{other}] has {lengths[other]} responses, {name}[0] {lengths[0]}: give as many for each prompt; "
            f"the first {min(lengths)} of each, or leave such prompts out if their number does not depend on rewards"
        )
