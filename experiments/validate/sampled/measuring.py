"""What is measured of a trained policy: responses to the evaluation prompts and their scores, kept as it comes.

Every policy belongs to a ref (its own ref, if it is one). Per prompt there are k responses of the policy itself, scored
under the policy and ref; the k responses of ref, scored again under the policy; and the experts' responses, whose
law is known. A line of ``measurements/<policy>.jsonl`` holds a few prompts; a run that was stopped goes on after
the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.language_model import State
from nondecoupling.lm.sampling import draw, text_of
from nondecoupling.lm.scoring import compare_states, log_probs
from nondecoupling.lm.tokens import PromptResponse, response_tokens, tokens_of_prompts
from validate.checksums import append_sealed_line, read_sealed_lines
from validate.configuration import SampledConfiguration
from validate.disk import Line
from validate.errors import RunFolderError
from validate.run_folder import MEASUREMENTS
from validate.sampled.per_token import padded, rows_of
from validate.sampled.rewards import CheckedReward, last_label
from validate.sampled.task import Question, columns
from validate.session import Session

__all__ = ["ARRAYS", "PER_TOKEN", "Measurement", "Measurer", "load_measurement", "rewards_of"]

# Prompts per line: small enough to lose little, large enough for full batches.
PROMPTS_PER_LINE = 20
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    """Of one policy, over all evaluation prompts or a part of them: arrays [prompts, k], where not said otherwise."""

    rewards: Numbers  # of the policy's own responses, the reward that RL is trained on
    robust: Numbers  # the last-label reward
    lengths: Numbers  # tokens
    log_p: Numbers
    log_ref: Numbers
    kl: Numbers  # sum_t KL(p||ref) along the policy's own responses
    back_log_p: Numbers  # log p of the responses of ref
    back_log_ref: Numbers
    back_kl: Numbers  # sum_t KL(ref||p) along the responses of ref
    expert_log_p: Numbers  # [prompts, responses of the experts]
    expert_rewards: Numbers  # the same, of their texts as the tokenizer gives them back
    listed: Numbers  # which of the experts' responses it is, or -1
    own_tokens: (
        Numbers  # [prompts, k, longest, ...], of the policy's own responses, see ``per_token``
    )
    back_tokens: (
        Numbers  # the same of the responses of ref, scored as ref, with the policy as the other one
    )
    texts: list[list[str]]

    def part(self, first: int, last: int | None) -> Measurement:
        return Measurement(**{f.name: getattr(self, f.name)[first:last] for f in fields(self)})


PER_TOKEN = ("own_tokens", "back_tokens")
ARRAYS = tuple(f.name for f in fields(Measurement) if f.name not in (*PER_TOKEN, "texts"))


def lines_of(prompts: int) -> int:
    """How many lines the measurement of a policy has."""
    return -(-prompts // PROMPTS_PER_LINE)


def measured_lines(place: Path) -> list[Line]:
    """The lines of a measurement that are there.

    Raises:
        RunFolderError: one is damaged.
    """
    try:
        return read_sealed_lines(place)
    except RunFolderError as error:
        raise RunFolderError(f"{error}; {_measure_again(place)}") from None


def _measure_again(place: Path) -> str:
    return f"remove it, and report.json if it is there: --resume then measures {place.stem} again, to the same numbers"


def load_measurement(place: Path, prompts: int) -> Measurement:
    """
    Raises:
        RunFolderError: the file is damaged or does not have all prompts, or is of a version of this program that
            kept other numbers.
    """
    lines = measured_lines(place)
    if len(lines) != lines_of(prompts):
        raise RunFolderError(
            f"{place} has {len(lines)} of {lines_of(prompts)} lines; {_measure_again(place)}"
        )
    missing = {name for line in lines for name in (*ARRAYS, *PER_TOKEN) if name not in line}
    if missing:
        raise RunFolderError(
            f"{place} has no {', '.join(sorted(missing))}: an earlier version of this program measured this run and "
            "kept less; start anew with another --out"
        )
    arrays = {name: np.concatenate([np.array(line[name]) for line in lines]) for name in ARRAYS}
    arrays |= {name: padded([one for line in lines for one in line[name]]) for name in PER_TOKEN}
    return Measurement(**arrays, texts=[texts for line in lines for texts in line["texts"]])


class Measurer:
    """Measures policies on the evaluation prompts, a line of prompts at a time."""

    def __init__(
        self,
        config: SampledConfiguration,
        session: Session,
        language_model: LanguageModel,
        questions: Sequence[Question],
        reward: CheckedReward,
    ) -> None:
        self.config, self.processes = config, session.processes
        self.folder = session.folder.path / MEASUREMENTS
        self.language_model, self.questions = language_model, questions
        self.reward, self.robust = reward, CheckedReward("last-label", last_label)

    @property
    def lines(self) -> int:
        return lines_of(len(self.questions))

    def place(self, policy: str) -> Path:
        return self.folder / f"{policy}.jsonl"

    def lines_done(self, policy: str) -> int:
        return len(self._lines(policy))

    def _lines(self, policy: str) -> list[Line]:
        """What is there, on every process."""
        mine = measured_lines(self.place(policy)) if self.processes.is_first else None
        return self.processes.from_first(mine)

    def measure(self, policy: str, ref: str, p: State, p_ref: State) -> Iterator[int]:
        """All lines of ``policy`` that are missing; yields how many there are after each.

        ``p`` and ``p_ref`` are the trained parameters of the policy and its ref.
        """
        of_ref = [
            tokens
            for line in (self._lines(ref) if policy != ref else [])
            for tokens in line["tokens"]
        ]
        if self.processes.is_first:
            self.folder.mkdir(exist_ok=True)
        for index in range(self.lines_done(policy), self.lines):
            first = index * PROMPTS_PER_LINE
            some = range(first, min(first + PROMPTS_PER_LINE, len(self.questions)))
            mine = list(self.processes.share(some))
            rows = self.processes.together_list(
                self._rows(mine, [self._seed(policy, i) for i in mine], of_ref, p, p_ref)
            )
            if self.processes.is_first:
                names = rows[0]
                append_sealed_line(
                    self.place(policy), {name: [row[name] for row in rows] for name in names}
                )
            yield index + 1

    def _seed(self, policy: str, index: int) -> int:
        entropy = [self.config.seed, index, *policy.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _rows(
        self,
        indices: Sequence[int],
        seeds: Sequence[int],
        of_ref: Sequence[Sequence[list[int]]],
        p: State,
        ref: State,
    ) -> list[Line]:
        """What a line holds of each prompt."""
        if not indices:  # a last line may have fewer prompts than there are processes
            return []
        language_model, k = self.language_model, self.config.responses
        tokenizer = language_model.tokenizer
        questions = [self.questions[i] for i in indices]
        prompts = tokens_of_prompts(tokenizer, [q.text for q in questions])
        language_model.restore(p)
        drawn = [
            draw(language_model, [x] * k, self.config.max_tokens, seed)
            for x, seed in zip(prompts, seeds, strict=True)
        ]
        own = compare_states(language_model, _pairs(prompts, drawn), p, ref, per_token=True)
        # A ref is its own ref, whose responses are scored already.
        back = own
        if of_ref:
            returned = _pairs(prompts, [of_ref[i] for i in indices])
            back = compare_states(language_model, returned, ref, p, per_token=True)
        assert own.tokens is not None and back.tokens is not None
        own_tokens, back_tokens = rows_of(own.tokens), rows_of(back.tokens)
        experts = [[response_tokens(tokenizer, r) for r in q.responses] for q in questions]
        language_model.restore(p)
        expert = log_probs(language_model, _pairs(prompts, experts))
        texts = [[text_of(language_model, y) for y in ys] for ys in drawn]
        trained = rewards_of(self.reward, questions, texts)
        robust = rewards_of(self.robust, questions, texts)
        of_experts = [[text_of(language_model, y) for y in ys] for ys in experts]
        expected = rewards_of(self.reward, questions, of_experts)

        def row(index: int) -> Line:
            mine = slice(index * k, (index + 1) * k)
            size = len(experts[index])
            return {
                "rewards": trained[mine],
                "robust": robust[mine],
                "lengths": [len(y) for y in drawn[index]],
                "log_p": own.log_p[mine].tolist(),
                "log_ref": own.log_ref[mine].tolist(),
                "kl": own.kl[mine].tolist(),
                "back_log_p": back.log_ref[mine].tolist(),
                "back_log_ref": back.log_p[mine].tolist(),
                "back_kl": back.kl[mine].tolist(),
                "expert_log_p": expert[index * size : (index + 1) * size].tolist(),
                "expert_rewards": expected[index * size : (index + 1) * size],
                "listed": [
                    experts[index].index(y) if y in experts[index] else -1 for y in drawn[index]
                ],
                "own_tokens": own_tokens[mine],
                "back_tokens": back_tokens[mine],
                "tokens": drawn[index],
                "texts": texts[index],
            }

        return [row(index) for index in range(len(indices))]


def rewards_of(
    reward: CheckedReward, questions: Sequence[Question], texts: Sequence[Sequence[str]]
) -> list[float]:
    """Of several responses to each question, in one list."""
    rows = [row for q, ys in zip(columns(questions), texts, strict=True) for row in [q] * len(ys)]
    given = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
    return reward([row["prompt"] for row in rows], [y for ys in texts for y in ys], **given)


def _pairs(
    prompts: Sequence[list[int]], responses: Sequence[Sequence[list[int]]]
) -> list[PromptResponse]:
    return [PromptResponse(x, y) for x, ys in zip(prompts, responses, strict=True) for y in ys]
