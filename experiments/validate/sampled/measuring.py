"""What is measured of a trained policy: responses to the evaluation prompts and their scores, kept as it comes.

Every policy belongs to a ref (its own ref, if it is one). Per prompt there are k responses of the policy itself, scored
under the policy and ref; the k responses of ref, scored again under the policy; and the experts' responses, whose
law is known. A line of ``measurements/<policy>.jsonl`` holds a few prompts; a run that was stopped goes on after
the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.sampling import draw, text_of
from nondecoupling.lm.scoring import compare_states, log_probs
from nondecoupling.lm.tokens import PromptResponse, prompt_tokens, response_tokens
from validate.run_folder import append_line, read_lines
from validate.sampled.rewards import Reward
from validate.sampled.task import Question, columns

__all__ = ["Measurement", "Measurer", "load_measurement"]

# Prompts per line: small enough to lose little, large enough for full batches.
PROMPTS_PER_LINE = 20
FIELDS = (
    "rewards",  # [prompts, k], of the policy's own responses, the reward that RL is trained on
    "robust",  # [prompts, k], the last-label reward
    "lengths",  # [prompts, k], tokens
    "log_p",  # [prompts, k]
    "log_ref",  # [prompts, k]
    "kl",  # [prompts, k], sum_t KL(p||ref) along the policy's own responses
    "back_log_p",  # [prompts, k], log p of the responses of ref
    "back_log_ref",  # [prompts, k]
    "back_kl",  # [prompts, k], sum_t KL(ref||p) along the responses of ref
    "expert_log_p",  # [prompts, responses of the experts]
    "expert_rewards",  # [prompts, responses of the experts], of their texts as the tokenizer gives them back
    "listed",  # [prompts, k], which of the experts' responses it is, or -1
)


@dataclass(frozen=True)
class Measurement:
    """The arrays of ``FIELDS``, over all evaluation prompts or a part of them."""

    arrays: dict[str, np.ndarray]
    texts: list[list[str]]

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.arrays[name]
        except KeyError:
            raise AttributeError(name) from None

    def part(self, first: int, last: int | None) -> Measurement:
        arrays = {name: array[first:last] for name, array in self.arrays.items()}
        return Measurement(arrays, self.texts[first:last])


def load_measurement(place: Path) -> Measurement:
    lines = read_lines(place)
    arrays = {name: np.concatenate([np.array(line[name]) for line in lines]) for name in FIELDS}
    return Measurement(arrays, [texts for line in lines for texts in line["texts"]])


class Measurer:
    """Measures policies on the evaluation prompts, a line of prompts at a time."""

    def __init__(
        self,
        language_model: LanguageModel,
        max_tokens: int,
        questions: Sequence[Question],
        rewards: tuple[Reward, Reward],
        responses: int,
        seed: int,
        processes: Processes,
        folder: Path,
    ) -> None:
        self.language_model, self.max_tokens = language_model, max_tokens
        self.questions, self.responses = questions, responses
        self.rewards, self.seed, self.processes, self.folder = rewards, seed, processes, folder

    @property
    def lines(self) -> int:
        return -(-len(self.questions) // PROMPTS_PER_LINE)

    def place(self, policy: str) -> Path:
        return self.folder / f"{policy}.jsonl"

    def lines_done(self, policy: str) -> int:
        return len(self.processes.from_first(read_lines(self.place(policy))))

    def measure(
        self, policy: str, ref: str, p: State, p_ref: State, on_line: Callable[[], None]
    ) -> None:
        """All lines of ``policy`` that are missing; ``p`` and ``p_ref`` are the trained parameters of the two."""
        of_ref = [
            tokens
            for line in (
                self.processes.from_first(read_lines(self.place(ref))) if policy != ref else []
            )
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
                append_line(
                    self.place(policy), {name: [row[name] for row in rows] for name in names}
                )
            on_line()

    def _seed(self, policy: str, index: int) -> int:
        entropy = [self.seed, index, *policy.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _rows(
        self,
        indices: Sequence[int],
        seeds: Sequence[int],
        of_ref: Sequence[Any],
        p: State,
        ref: State,
    ) -> list[dict[str, Any]]:
        """What a line holds of each prompt."""
        if not indices:  # a last line may have fewer prompts than there are processes
            return []
        language_model, k = self.language_model, self.responses
        tokenizer = language_model.tokenizer
        questions = [self.questions[i] for i in indices]
        prompts = [prompt_tokens(tokenizer, q.text) for q in questions]
        language_model.restore(p)
        drawn = [
            draw(language_model, [x] * k, self.max_tokens, seed)
            for x, seed in zip(prompts, seeds, strict=True)
        ]
        own = compare_states(language_model, _pairs(prompts, drawn), p, ref)
        returned = [of_ref[i] for i in indices] if of_ref else drawn
        back = compare_states(language_model, _pairs(prompts, returned), ref, p)
        experts = [[response_tokens(tokenizer, r) for r in q.responses] for q in questions]
        language_model.restore(p)
        expert = log_probs(language_model, _pairs(prompts, experts))
        texts = [[text_of(language_model, y) for y in ys] for ys in drawn]
        trained, robust = (self._reward(reward, questions, texts) for reward in self.rewards)
        of_experts = [[text_of(language_model, y) for y in ys] for ys in experts]
        expected = self._reward(self.rewards[0], questions, of_experts)

        def row(index: int) -> dict[str, Any]:
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
                "tokens": drawn[index],
                "texts": texts[index],
            }

        return [row(index) for index in range(len(indices))]

    def _reward(
        self, reward: Reward, questions: Sequence[Question], texts: Sequence[Sequence[str]]
    ) -> list[float]:
        rows = [
            row for q, ys in zip(columns(questions), texts, strict=True) for row in [q] * len(ys)
        ]
        given = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
        return reward([row["prompt"] for row in rows], [y for ys in texts for y in ys], **given)


def _pairs(
    prompts: Sequence[list[int]], responses: Sequence[Sequence[list[int]]]
) -> list[PromptResponse]:
    return [PromptResponse(x, y) for x, ys in zip(prompts, responses, strict=True) for y in ys]
