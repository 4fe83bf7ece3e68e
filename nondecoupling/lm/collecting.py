"""Draw, score and reward responses of a start policy to many prompts, into a file that a forecast is made from.

Work is done in parts of some prompts each. A part is written down as soon as its responses are drawn, and again with
their rewards, in a folder next to the file; whatever ends a run, the next one goes on from there and makes the same
file. With ``accelerate launch`` the parts are shared among processes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from nondecoupling.collected import CollectedSamples, Origin
from nondecoupling.estimate.arguments import shown, whole_number
from nondecoupling.lm.asked import Asked, asked_of
from nondecoupling.lm.digests import (
    digest_of,
    model_digest,
    require_known_scheme,
    tokenizer_digest,
)
from nondecoupling.lm.errors import CollectError, RewardFunctionError
from nondecoupling.lm.file_locks import locked
from nondecoupling.lm.language_model import LanguageModel, evaluating, from_transformers
from nondecoupling.lm.parts import parts_of, work_through, write_whole
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.rewards import Reward, RewardFunctions
from nondecoupling.lm.sampling import draw, text_of
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["collect"]

Row = dict[str, Any]
LEAST_RESPONSES = 2  # what a forecast needs
NO_REUSE = (
    "name another out, or read the file with CollectedSamples.read; a function that is made with plain values, and "
    "loads its model when it is called, can be told"
)
logger = logging.getLogger(__name__)


def collect(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[Any],
    reward: Reward | Sequence[Reward],
    *,
    k: int,
    reward_bounds: Sequence[float],
    max_tokens: int,
    experts: Sequence[str] | Sequence[Sequence[str]] | None = None,
    reward_weights: Sequence[float] | None = None,
    out: str | Path = "ref.parquet",
    seed: int = 0,
    rows_at_once: int = 64,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> CollectedSamples:
    """k responses of the model to each prompt with their rewards and log-probabilities, in a Parquet file.

    Drawn at temperature 1 from the whole vocabulary. ``prompts``: texts, chats (lists of messages), or rows with a
    ``prompt`` and further columns, which go to the reward function as in TRL. ``reward``: one function in TRL's
    signature or several, added up with ``reward_weights``; ``reward_bounds`` must hold for every possible response.
    ``experts``: one text, or as many texts for each prompt, which are scored and rewarded too. ``max_tokens`` is the
    trainer's ``max_completion_length``, ``chat_template_kwargs`` what it gives the chat template of chats, as
    ``{"enable_thinking": False}``. Where ``out`` is complete already, it is returned.

    An interrupted call goes on where it stopped: call it again with the same arguments. A reward function that fails
    loses nothing: responses are kept in the folder ``out`` + ``.parts``, and only rewards are computed again, all of
    them if the function has changed: its source, its class, or the values in its closure, defaults, attributes or
    partial arguments. Where these have no content to compare, as a model has not, rewards are never used again. Global
    variables and functions that it calls are not compared. Sets torch's random seed.

    Raises:
        RewardFunctionError: the reward function raised, or did not return one reward within the bounds for each.
        CollectError: ``out`` or its parts belong to another model, prompts or settings, or cannot be read; ``out`` is
            complete, and whether the reward function is the same cannot be told; two prompts are alike, or one is no
            prompt; ``chat_template_kwargs`` cannot be written as JSON; another call is collecting into ``out``, or has
            just made it.
        ModelError: the model cannot be scored, or draws from another law than that of its logits.
        ResponseError: a prompt or an expert response has no tokens that the model could be asked about.
        ProcessesError: another process stopped, for a reason that is none of these.

    Example:
        >>> from nondecoupling.lm import tiny_qwen3
        >>> tiny = tiny_qwen3(["Is it red?", "Is it blue?", " Yes.", " No."], seed=0)
        >>> def says_yes(prompts, completions, **columns):
        ...     return [float("Yes" in text) for text in completions]
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = collect(
        ...         tiny.model, tiny.tokenizer, ["Is it red?", "Is it blue?"], says_yes,
        ...         k=8, reward_bounds=(0, 1), max_tokens=2, out=f"{folder}/ref.parquet",
        ...     )
        >>> found.rewards.shape, found.origin.rewards
        ((2, 8), ('says_yes',))
    """
    processes = Processes()
    with evaluating(model):
        with processes.failing_together():
            k = whole_number("k", k, LEAST_RESPONSES)
            max_tokens = whole_number("max_tokens", max_tokens, 1)
            rows_at_once = whole_number("rows_at_once", rows_at_once, 1)
            language_model = from_transformers(model, tokenizer)
            template_kwargs = _as_json("chat_template_kwargs", chat_template_kwargs or {})
            asked = asked_of(tokenizer, prompts, experts, template_kwargs)
            for one in asked:
                for text, tokens in zip(one.experts, one.expert_tokens, strict=True):
                    language_model.require_one_end(text, tokens)
            rewards = RewardFunctions.of(reward, reward_weights, reward_bounds)
            origin = Origin(
                model=language_model.description,
                model_digest=model_digest(language_model),
                tokenizer_digest=tokenizer_digest(tokenizer),
                prompts_digest=digest_of(one.text() for one in asked),
                responses=k,
                max_tokens=max_tokens,
                seed=whole_number("seed", seed, 0),
                rows_at_once=rows_at_once,
                reward_bounds=rewards.bounds,
                rewards=rewards.names,
                rewards_digest=rewards.digest
                and digest_of([rewards.digest.encode(), *(one.facts() for one in asked)]),
                chat_template_kwargs=template_kwargs,
            )
        own = digest_of([origin.to_json().encode()]) if origin.rewards_digest else uuid4().hex
        rewards_key = processes.all_of([own[:16]])[0]
        return _Collection(
            language_model, asked, rewards, rewards_key, origin, Path(out), processes
        ).run()


@dataclass
class _Collection:
    """One call of ``collect``: its parts, and the way from them to the file.

    ``rewards_key``: in the names of parts with rewards, of this function or, where that cannot be told, of this call.
    """

    language_model: LanguageModel
    asked: list[Asked]
    rewards: RewardFunctions
    rewards_key: str
    origin: Origin
    out: Path
    processes: Processes

    def run(self) -> CollectedSamples:
        found: CollectedSamples | None = None
        with ExitStack() as held:
            with self.processes.failing_together():
                if self.out.exists():
                    found = self._complete()
                elif self.processes.is_first:
                    held.enter_context(self._only_collector())
                    self._begin()
            if found is not None:
                return found
            parts = parts_of(len(self.asked), self.origin.responses, self.origin.rows_at_once)
            work_through(self.processes, parts, self._do, "collecting")
            with self.processes.failing_together():
                if self.processes.is_first:
                    rows = [row for part in parts for row in _read(self._rewarded(part))]
                    _table(rows, self.origin).write(self.out)
                    held.close()
                    shutil.rmtree(self.folder, ignore_errors=True)
        return CollectedSamples.read(self.out)

    @contextmanager
    def _only_collector(self) -> Iterator[None]:
        """Nobody else works on the parts, until this call ends or its process does: a killed one can go on at once.

        Raises:
            CollectError: another call does, or has just made the file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        refusal = f"another call is collecting into {self.out}; wait for it, or name another out: what is drawn is kept"
        with locked(self.folder / "lock", refusal):
            if self.out.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                raise CollectError(f"{self.out}: another call has just made it; call collect again")
            yield

    @property
    def folder(self) -> Path:
        return self.out.with_name(self.out.name + ".parts")

    def _complete(self) -> CollectedSamples:
        if self.out.is_dir():
            raise CollectError(f"out={str(self.out)!r} is a folder: name a file, as ref.parquet")
        try:
            found = CollectedSamples.read(self.out)
        except ValueError as error:
            raise CollectError(
                f"out={str(self.out)!r} is there already, and cannot be read ({error}): name another out, or remove it"
            ) from None
        self._require_same(found.origin, self.out, rewards_too=True)
        if not self.origin.rewards_digest:
            raise CollectError(f"{self.out} is there already, and {self._untold()}: {NO_REUSE}")
        return found

    def _untold(self) -> str:
        names = ", ".join(self.rewards.untold)
        return (
            f"whether rewards are those of {names} cannot be told (closure, attributes, default or partial values hold "
            "something without content to compare, such as a model)"
        )

    def _begin(self) -> None:
        """Make the folder of parts, or see that it is of this very collection."""
        settings = self.folder / "origin.json"
        if settings.is_file():
            try:
                before = Origin.from_json(settings.read_bytes(), settings)
            except ValueError as error:
                raise CollectError(
                    f"{settings} is damaged, or of another version: remove {self.folder}, and call collect again"
                ) from error
            self._require_same(before, self.folder, rewards_too=False)
            if not self.origin.rewards_digest:
                logger.warning(
                    "all rewards in %s are asked for again, as %s", self.folder, self._untold()
                )
        write_whole(settings, self.origin.to_json())

    def _require_same(self, before: Origin, place: Path, *, rewards_too: bool) -> None:
        require_known_scheme(before.model_digest, place)
        mine, other = (
            origin
            if rewards_too
            else replace(origin, rewards=(), rewards_digest="", reward_bounds=(0, 0))
            for origin in (self.origin, before)
        )
        differ = [
            f"{name} {shown(old)} there, {shown(vars(mine)[name])} here"
            for name, old in vars(other).items()
            if old != vars(mine)[name]
        ]
        if differ:
            raise CollectError(
                f"{place} was made with other settings ({'; '.join(differ)}): name another out, or remove it"
            )

    def _drawn(self, part: range) -> Path:
        return self.folder / f"{part.start:08d}.drawn.json"

    def _rewarded(self, part: range) -> Path:
        # Processes that outlive their first one, and so its lock, may still write rewards of another function.
        return self.folder / f"{part.start:08d}.{self.rewards_key}.rewarded.json"

    def _do(self, part: range) -> None:
        if self._rewarded(part).is_file():
            return
        if not self._drawn(part).is_file():
            write_whole(self._drawn(part), json.dumps(self._draw(part)))
        rows = _read(self._drawn(part))
        try:
            for row, place in zip(rows, part, strict=True):
                self._reward(row, self.asked[place])
        except RewardFunctionError as error:
            raise RewardFunctionError(
                f"{error}. What was drawn is kept in {self.folder}: correct the function and call collect again with "
                "the same arguments"
            ) from error
        write_whole(self._rewarded(part), json.dumps(rows))

    def _draw(self, part: range) -> list[Row]:
        model, k, at_once = self.language_model, self.origin.responses, self.origin.rows_at_once
        some = [self.asked[place] for place in part]
        # A part does not depend on which others were drawn before it.
        seed = int(np.random.SeedSequence((self.origin.seed, part.start)).generate_state(1)[0])
        repeated = [one for one in some for _ in range(k)]
        drawn = draw(model, [one.tokens for one in repeated], self.origin.max_tokens, seed, at_once)
        pairs = [PromptResponse(one.tokens, y) for one, y in zip(repeated, drawn, strict=True)]
        log_ref = log_probs(model, pairs, at_once).tolist()
        rows = []
        for place, one in enumerate(some):
            own = slice(place * k, (place + 1) * k)
            texts = [text_of(model, tokens) for tokens in drawn[own]]
            row = {"prompt": one.label, "prompt_tokens": one.tokens, "response": texts}
            rows.append(row | {"response_tokens": drawn[own], "log_ref": log_ref[own]})
            if one.experts:
                whole = [PromptResponse(one.tokens, y) for y in one.expert_tokens]
                scores = log_probs(model, whole, at_once)
                rows[-1] |= {"expert_response": one.experts, "expert_tokens": one.expert_tokens}
                rows[-1] |= {"expert_log_ref": scores.tolist()}
        return rows

    def _reward(self, row: Row, one: Asked) -> None:
        kinds = [("response", "response_tokens", "reward")]
        if one.experts:
            kinds.append(("expert_response", "expert_tokens", "expert_reward"))
        for texts, tokens, name in kinds:
            count = len(row[texts])
            given = self.rewards(
                [one.prompt] * count,
                [one.completion(text) for text in row[texts]],
                row[tokens],
                {column: [value] * count for column, value in one.columns.items()},
            )
            row[name] = given.tolist()


def _as_json(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """As a file of JSON gives it back, so that both can be compared."""
    try:
        kept: dict[str, Any] = json.loads(json.dumps(dict(given)))
    except (TypeError, ValueError):
        raise CollectError(
            f"{name}={shown(given)}: give a dictionary with values of JSON, as {{'enable_thinking': False}}, since the "
            "file keeps it"
        ) from None
    return kept


def _read(part: Path) -> list[Row]:
    try:
        rows: list[Row] = json.loads(part.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CollectError(
            f"{part} is damaged ({error}): remove it, and call collect again"
        ) from None
    return rows


def _table(rows: list[Row], origin: Origin) -> CollectedSamples:
    import pyarrow as pa

    of_tokens, numbers, texts = (
        pa.list_(pa.list_(pa.int32())),
        pa.list_(pa.float64()),
        pa.list_(pa.string()),
    )
    kinds = {"prompt": pa.string(), "prompt_tokens": pa.list_(pa.int32()), "response": texts}
    kinds |= {"response_tokens": of_tokens, "reward": numbers, "log_ref": numbers}
    if "expert_reward" in rows[0]:
        kinds |= {"expert_response": texts, "expert_tokens": of_tokens}
        kinds |= {"expert_reward": numbers, "expert_log_ref": numbers}
    return CollectedSamples(pa.Table.from_pylist(rows, schema=pa.schema(kinds.items())), origin)
