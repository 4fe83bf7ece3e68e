"""What a forecast is made from: rewards of the start policy's responses, and of expert ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nondecoupling.estimate.arguments import Array, checked_bounds, prompt_labels, shown
from nondecoupling.forecast import files
from nondecoupling.forecast.arguments import (
    LEAST_RESPONSES,
    checked_log_probs,
    checked_mask,
    checked_rewards,
    padded,
    positive_weights,
    require_responses,
)
from nondecoupling.forecast.laws import DistinctLaws, Responses
from nondecoupling.forecast.refusals import NoSpread, RepeatedPrompts


class Samples:
    """Rewards r(x, y) of k responses y ~ ref(.|x) of the start policy to each of n prompts x.

    ``ref_rewards`` has shape ``[n, k]``, where ``mask`` ``[n, k]`` is true; prompts may have different numbers of
    responses, two at least, if these numbers do not depend on rewards. ``reward_bounds`` (low, high) hold for every
    possible response, not only for those seen; a reward beyond them by float32's rounding, 2^-23 of their size, is put
    onto them. Whether a response to a prompt has the highest reward is not assumed, either way: where a forward leash
    ends depends on it, and its limits allow for both. ``expert_rewards`` ``[n, m]``,
    if the SFT loss on expert data is asked for: those of m responses of the experts to the same prompts.
    ``ref_log_probs`` ``[n, k]`` and ``expert_log_ref`` ``[n, m]``: log ref(y|x) of whole responses, in nats, from which
    the SFT loss at the start is known and not only its change. ``weights`` ``[n]``, positive, of any sum: how much more
    often a prompt occurs in the law in question than in the one that the prompts were drawn from; the largest weight
    possible is assumed to be among them. ``prompt_ids``: n labels, whole numbers or strings, no two alike; without them
    nothing checks that no prompt was given twice.

    Assumes that prompts are independent draws, and that responses are independent given the prompt, drawn from ref
    itself: temperature 1, no top-k or top-p. Units: those of the reward.

    Errors: ``RewardOutsideBounds``, ``TooFewPrompts``, ``NoSpread``, ``RaggedRows``, ``RepeatedPrompts``; NaN; fewer
    than two responses to a prompt; a positive log-probability; arrays that do not fit.

    >>> samples = Samples([[0, 1], [1, 1]] * 20, reward_bounds=(0, 1))
    >>> samples
    Samples(40 prompts, 2 responses to each, rewards in (0, 1), mean 0.75)
    >>> Samples([[0, 1], [1, 1]] * 20, reward_bounds=(0, 1), weights=[1, 3] * 20)
    Samples(40 prompts, 2 responses to each, rewards in (0, 1), mean 0.875, weighted)
    >>> Samples([[0, 1], [1, 1]] * 20, reward_bounds=(0, 0.5))
    Traceback (most recent call last):
    nondecoupling.forecast.refusals.RewardOutsideBounds: ref_rewards[0, 1]=1.0: outside reward_bounds=(0.0, 0.5)...
    """

    def __init__(
        self,
        ref_rewards: ArrayLike,
        *,
        reward_bounds: ArrayLike,
        mask: ArrayLike | None = None,
        expert_rewards: ArrayLike | None = None,
        expert_log_ref: ArrayLike | None = None,
        ref_log_probs: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        prompt_ids: Sequence[Hashable] | None = None,
    ) -> None:
        bounds = checked_bounds("reward_bounds", reward_bounds)
        self.reward_bounds = bounds
        there = None if mask is None else checked_mask(mask, ref_rewards)
        self.ref_rewards = checked_rewards(
            "ref_rewards", ref_rewards, LEAST_RESPONSES, bounds, there
        )
        self.mask: NDArray[np.bool_] = np.ones(self.ref_rewards.shape, bool)
        if there is not None:
            self.mask = there
            require_responses(there)
        self.weights: Array | None = None
        if weights is not None:
            self.weights = positive_weights(weights, self.prompts)
        one_reward = np.where(self.mask, self.ref_rewards, np.inf).min(axis=1)
        if not (self.mask & (self.ref_rewards != one_reward[:, None])).any():
            raise NoSpread(
                "ref_rewards: all responses to each prompt have one reward; RL changes nothing that these samples "
                "could show. Draw more responses, or give prompts of another difficulty"
            )
        self.expert_rewards: Array | None = None
        if expert_rewards is not None:
            self.expert_rewards = checked_rewards("expert_rewards", expert_rewards, 1, bounds)
            if len(self.expert_rewards) != self.prompts:
                raise ValueError(
                    f"expert_rewards has {len(self.expert_rewards)} rows, ref_rewards {self.prompts}: give one row "
                    "for each prompt, in the same order"
                )
        self.ref_log_probs = checked_log_probs(
            "ref_log_probs", ref_log_probs, "ref_rewards", self.ref_rewards, there
        )
        self.expert_log_ref = checked_log_probs(
            "expert_log_ref", expert_log_ref, "expert_rewards", self.expert_rewards
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
        """To each prompt; where their numbers differ, the largest."""
        return int(self.mask.sum(axis=1).max())

    @property
    def spread(self) -> float:
        """high - low of the reward bounds."""
        return self.reward_bounds[1] - self.reward_bounds[0]

    @cached_property
    def drawn(self) -> Responses:
        """The responses of the start policy, with how often each prompt counts."""
        weights = np.ones(self.prompts) if self.weights is None else self.weights
        return Responses.of(self.ref_rewards, self.mask, weights)

    @cached_property
    def with_one_best(self) -> DistinctLaws:
        """The sampled laws, each with a response of the highest reward that was not seen."""
        return self.drawn.distinct_with_best(self.reward_bounds[1], 1.0)

    @property
    def mean_reward(self) -> float:
        """Of the start policy, over prompts."""
        return float(self.drawn.average(self.drawn.mean()))

    def __repr__(self) -> str:
        low, high = self.reward_bounds
        fewest = int(self.mask.sum(axis=1).min())
        each = f"{self.responses}" if fewest == self.responses else f"{fewest} to {self.responses}"
        weighted = "" if self.weights is None else ", weighted"
        return (
            f"Samples({self.prompts} prompts, {each} responses to each, rewards in ({low:g}, {high:g}), "
            f"mean {self.mean_reward:.6g}{weighted})"
        )

    def in_random_order(self) -> Samples:
        """The same prompts, and responses to each, in an order that no file imposed; the seed is fixed.

        Betting on prompts one by one, parts of the prompts and folds of the responses need an order that says nothing;
        files are often sorted.
        """
        rng = np.random.default_rng(0)
        order = rng.permutation(self.prompts)
        columns = np.tile(np.arange(self.ref_rewards.shape[1]), (self.prompts, 1))
        columns = rng.permuted(columns, axis=1)
        # Where there is no response comes last, so that folds of what is there are even.
        last = ~np.take_along_axis(self.mask[order], columns, axis=1)
        columns = np.take_along_axis(columns, np.argsort(last, axis=1, kind="stable"), axis=1)

        def rows(values: Array | None) -> Array | None:
            return None if values is None else values[order]

        def shuffled(values: Array | None) -> Array | None:
            return None if values is None else np.take_along_axis(values[order], columns, axis=1)

        ids = self.prompt_ids
        return Samples(
            np.take_along_axis(self.ref_rewards[order], columns, axis=1),
            reward_bounds=self.reward_bounds,
            mask=np.take_along_axis(self.mask[order], columns, axis=1),
            expert_rewards=rows(self.expert_rewards),
            expert_log_ref=rows(self.expert_log_ref),
            ref_log_probs=shuffled(self.ref_log_probs),
            weights=rows(self.weights),
            prompt_ids=None if ids is None else [ids[i] for i in order],
        )

    def to_dict(self) -> dict[str, Any]:
        """The arguments, ready for JSON.

        >>> samples = Samples([[0, 1]] * 16, reward_bounds=(0, 1))
        >>> Samples(**samples.to_dict())
        Samples(16 prompts, 2 responses to each, rewards in (0, 1), mean 0.5)
        """
        arrays = {
            "ref_rewards": self.ref_rewards,
            "mask": None if self.mask.all() else self.mask,
            "expert_rewards": self.expert_rewards,
            "expert_log_ref": self.expert_log_ref,
            "ref_log_probs": self.ref_log_probs,
            "weights": self.weights,
        }
        listed = {n: None if array is None else array.tolist() for n, array in arrays.items()}
        return {
            **listed,
            "reward_bounds": list(self.reward_bounds),
            "prompt_ids": self.prompt_ids,
        }

    @classmethod
    def from_jsonl(cls, path: str | Path, **options: Unpack[files.FileOptions]) -> Samples:
        """Samples from a file with one JSON object on each line, given ``reward_bounds``.

        ``prompt``, ``reward``, ``log_prob``, ``expert_reward``, ``expert_log_prob`` and ``weight`` name its columns.
        Without the first two they are ``prompt`` and ``reward`` or, as verl dumps rollouts, ``input`` and ``score``;
        where both pairs are there, or both rewards, and differ in some row, one must be named. Of the others only those
        that are named are read. Either one line per response, gathered by prompt, or one line per
        prompt whose columns are lists. Prompts are texts, chat messages or, all of them, whole numbers. Rows must come
        from the start policy alone: where a column ``step`` has several values, ``step`` chooses one. ``ragged=True``
        takes prompts with different numbers of responses, which must not depend on the rewards; of expert responses
        each prompt has as many.

        Errors: as ``Samples``; no such file; a line that is not an object; other columns; several steps of training;
        weights of a prompt that differ.

        >>> import json, pathlib, tempfile
        >>> lines = [{"input": f"{x} + 1 =", "output": y, "score": y == x + 1} for x in range(16) for y in (2, 3)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "rollouts.jsonl"
        ...     _ = file.write_text("\\n".join(map(json.dumps, lines)))
        ...     Samples.from_jsonl(file, reward_bounds=(0, 1))
        Samples(16 prompts, 2 responses to each, rewards in (0, 1), mean 0.0625)
        """
        return cls._of(files.read_jsonl(Path(path)), path, **options)

    @classmethod
    def from_parquet(cls, path: str | Path, **options: Unpack[files.FileOptions]) -> Samples:
        """Samples from a Parquet file, with options as in ``from_jsonl``; needs pyarrow.

        TRL's ``log_completions`` names a reward's column after its function: give that name as ``reward``. A file of
        ``lm.collect`` knows its bounds and columns: ``CollectedSamples.read(path).samples()``.

        Errors: as ``from_jsonl``; a file that is no Parquet file; ``ImportError`` without pyarrow.
        """
        return cls._of(files.read_parquet(Path(path)), path, **options)

    @classmethod
    def _of(
        cls,
        table: files.Table,
        path: str | Path,
        *,
        reward_bounds: ArrayLike,
        ragged: bool = False,
        step: int | None = None,
        **columns: str | None,
    ) -> Samples:
        rows = files.gathered(table, path, step=step, **columns)
        rewards, mask = rows.rewards, None
        log_probs = rows.extra["log_prob"]
        if ragged:
            rewards, mask = padded(rewards)
            log_probs = None if log_probs is None else padded(log_probs)[0]
        return cls(
            rewards,
            reward_bounds=reward_bounds,
            mask=mask,
            expert_rewards=rows.extra["expert_reward"],
            expert_log_ref=rows.extra["expert_log_prob"],
            ref_log_probs=log_probs,
            weights=rows.weights,
            prompt_ids=rows.prompts,
        )
