"""Draw, score and reward responses of a start policy to many prompts, into a file that a forecast is made from.

Work is done in parts of some prompts each. A part is written down as soon as its responses are drawn, and again with
their rewards, in a folder next to the file; whatever ends a run, the next one goes on from there and makes the same
file. With ``accelerate launch`` the parts are shared among processes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from nondecoupling.collected import CollectedSamples, Origin, prompt_label
from nondecoupling.estimate.arguments import shown, whole_number
from nondecoupling.lm.digests import digest_of, model_digest, tokenizer_digest
from nondecoupling.lm.errors import CollectError, RewardFunctionError
from nondecoupling.lm.language_model import LanguageModel, from_transformers
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.rewards import Reward, RewardFunctions
from nondecoupling.lm.sampling import draw, text_of
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse, response_tokens, text_or_chat_tokens

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
) -> CollectedSamples:
    """k responses of the model to each prompt with their rewards and log-probabilities, in a Parquet file.

    Drawn at temperature 1 from the whole vocabulary. ``prompts``: texts, chats (lists of messages), or rows with a
    ``prompt`` and further columns, which go to the reward function as in TRL. ``reward``: one function in TRL's
    signature or several, added up with ``reward_weights``; ``reward_bounds`` must hold for every possible response.
    ``experts``: one text, or as many texts for each prompt, which are scored and rewarded too. ``max_tokens`` is the
    trainer's ``max_completion_length``. Where ``out`` is complete already, it is returned.

    An interrupted call goes on where it stopped: call it again with the same arguments. A reward function that fails
    loses nothing: responses are kept in the folder ``out`` + ``.parts``, and only rewards are computed again, all of
    them if the function has changed: its source, its class, or the values in its closure, defaults, attributes or
    partial arguments. Where these have no content to compare, as a model has not, rewards are never used again. Global
    variables and functions that it calls are not compared. Sets torch's random seed.

    Raises:
        RewardFunctionError: the reward function raised, or did not return one reward within the bounds for each.
        CollectError: ``out`` or its parts belong to another model, prompts or settings; ``out`` is complete, and
            whether the reward function is the same cannot be told; two prompts are alike.
        ResponseError: a prompt or an expert response has no tokens that the model could be asked about.

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
    k = whole_number("k", k, LEAST_RESPONSES)
    max_tokens = whole_number("max_tokens", max_tokens, 1)
    rows_at_once = whole_number("rows_at_once", rows_at_once, 1)
    was_training = model.training
    try:
        language_model = from_transformers(model, tokenizer)
        asked = _asked(tokenizer, prompts, experts)
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
        )
        return _Collection(language_model, asked, rewards, origin, Path(out)).run()
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class _Asked:
    """A prompt: as the user gave it, as tokens, with its other columns and its experts' responses."""

    prompt: Any
    tokens: list[int]
    columns: dict[str, Any]
    experts: list[str]
    expert_tokens: list[list[int]]

    @property
    def label(self) -> str:
        return prompt_label(self.prompt)

    @property
    def is_text(self) -> bool:
        return isinstance(self.prompt, str)

    def text(self) -> bytes:
        """What its responses depend on."""
        return json.dumps([self.label, self.tokens, self.experts]).encode()

    def facts(self) -> bytes:
        """What else its rewards depend on."""
        return json.dumps(self.columns, sort_keys=True, default=str).encode()

    def completion(self, text: str) -> Any:
        """As TRL gives it to a reward function: a message where the prompt is a chat."""
        return text if self.is_text else [{"role": "assistant", "content": text}]


@dataclass
class _Collection:
    """One call of ``collect``: its parts, and the way from them to the file."""

    language_model: LanguageModel
    asked: list[_Asked]
    rewards: RewardFunctions
    origin: Origin
    out: Path

    def run(self) -> CollectedSamples:
        processes = Processes()
        if self.out.exists():
            return self._complete()
        if processes.is_first:
            self._begin()
        processes.wait()
        parts = self._parts()
        failure: RewardFunctionError | None = None
        with Progress(console=Console(stderr=True), disable=not processes.is_first) as bar:
            for part in bar.track(processes.share(parts), description="collecting"):
                try:
                    self._do(part)
                except RewardFunctionError as error:
                    failure = error
                    break
        # Nobody waits for a process that has left.
        failures = [e for e in processes.together_list([str(failure or "")]) if e]
        if failures:
            raise failure or RewardFunctionError(failures[0])
        if processes.is_first:
            rows = [row for part in parts for row in json.loads(self._rewarded(part).read_text())]
            _table(rows, self.origin).write(self.out)
            shutil.rmtree(self.folder)
        processes.wait()
        return CollectedSamples.read(self.out)

    @property
    def folder(self) -> Path:
        return self.out.with_name(self.out.name + ".parts")

    def _parts(self) -> list[range]:
        size = max(1, self.origin.rows_at_once // self.origin.responses)
        count = len(self.asked)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def _complete(self) -> CollectedSamples:
        found = CollectedSamples.read(self.out)
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
        self.folder.mkdir(parents=True, exist_ok=True)
        if settings.is_file():
            before = Origin.from_json(settings.read_text(), settings)
            self._require_same(before, self.folder, rewards_too=False)
            if before == self.origin and self.origin.rewards_digest:
                return
            if not self.origin.rewards_digest:
                logger.warning(
                    "all rewards in %s are asked for again, as %s", self.folder, self._untold()
                )
            for file in self.folder.glob("*.rewarded.json"):  # by another reward function
                file.unlink()
        _write(settings, self.origin.to_json())

    def _require_same(self, before: Origin, place: Path, *, rewards_too: bool) -> None:
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
        return self.folder / f"{part.start:08d}.rewarded.json"

    def _do(self, part: range) -> None:
        if self._rewarded(part).is_file():
            return
        if not self._drawn(part).is_file():
            _write(self._drawn(part), json.dumps(self._draw(part)))
        rows = json.loads(self._drawn(part).read_text())
        try:
            for row, place in zip(rows, part, strict=True):
                self._reward(row, self.asked[place])
        except RewardFunctionError as error:
            raise RewardFunctionError(
                f"{error}. What was drawn is kept in {self.folder}: correct the function and call collect again with "
                "the same arguments"
            ) from error
        _write(self._rewarded(part), json.dumps(rows))

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

    def _reward(self, row: Row, one: _Asked) -> None:
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


def _asked(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[Any],
    experts: Sequence[str] | Sequence[Sequence[str]] | None,
) -> list[_Asked]:
    given = list(prompts)
    if not given:
        raise CollectError("prompts is empty: give at least one")
    if experts is not None and len(experts) != len(given):
        raise CollectError(
            f"experts has {len(experts)} entries for {len(given)} prompts: give one text, or a list of texts, for each"
        )
    found: list[_Asked] = []
    for place, entry in enumerate(given):
        columns = dict(entry) if isinstance(entry, Mapping) else {"prompt": entry}
        if "prompt" not in columns:
            raise CollectError(
                f"prompts[{place}]={shown(entry)}: give a text, a chat, or a row with a column 'prompt'"
            )
        prompt = columns.pop("prompt")
        own = [] if experts is None else experts[place]
        texts = [own] if isinstance(own, str) else list(own)
        whole = [response_tokens(tokenizer, text) for text in texts]
        found.append(_Asked(prompt, text_or_chat_tokens(tokenizer, prompt), columns, texts, whole))
    _check(found)
    return found


def _check(asked: list[_Asked]) -> None:
    places: dict[str, int] = {}
    for place, one in enumerate(asked):
        earlier = places.setdefault(one.label, place)
        if earlier != place:
            raise CollectError(
                f"prompts[{place}]={shown(one.prompt)} is prompts[{earlier}] again: give each prompt once; k says how "
                "many responses"
            )
        if len(one.experts) != len(asked[0].experts):
            raise CollectError(
                f"experts[{place}] has {len(one.experts)} texts, experts[0] {len(asked[0].experts)}: give as many for "
                "each prompt"
            )


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


def _write(place: Path, text: str) -> None:
    """In one step: a part is there or not."""
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(place)
