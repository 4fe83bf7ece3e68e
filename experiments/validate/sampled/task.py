"""Prompts, expert responses and their law, and the order in which training sees them.

A prompt asks whether a sentence is acceptable. The experts answer in three styles, each with the right label and,
with a known rate, the wrong one, so the data law d(.|x) is a known law on six responses with real spread:

    terse    " acceptable"
    chatty   " I find it acceptable"
    formal   " Final answer: acceptable"    the format that the strict reward asks for

In a chat (``prompt_format``) the question is a user's turn, without "Answer:", and no response begins with a space.

Training prompts and held-out prompts are disjoint. Evaluation prompts are drawn with replacement from the held-out
ones: independent draws from q, the uniform law on them, chosen before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from validate.expert_law import expert_law
from validate.sampled.sentence import Sentence
from validate.sampled.sentences import DataError

__all__ = ["FORMAL", "LABELS", "SELF", "Question", "SampledTask", "columns", "make_task"]

LABELS = ("acceptable", "unacceptable")
FORMAL = "Final answer: "
STYLES: tuple[str, ...] = (" {}", " I find it {}", f" {FORMAL}{{}}")
LABEL_NOISE = (0.05, 0.10, 0.20)
# Purposes of random numbers: each gets its own stream from the run's seed.
SPLIT, EVALUATION, SFT, EXPERTS, RL, SELF = range(6)


@dataclass(frozen=True)
class Question:
    """One prompt x with its right label, the experts' responses and their law; ``place`` is for messages."""

    text: str
    label: str
    place: str
    responses: tuple[str, ...]
    law: tuple[float, ...]


@dataclass(frozen=True)
class SampledTask:
    """Questions of a run: for training, and for evaluation (drawn from the held-out ones)."""

    train: tuple[Question, ...]
    held_out: tuple[Question, ...]
    evaluation: tuple[Question, ...]
    seed: int

    @property
    def texts(self) -> list[str]:
        """Everything that a vocabulary must cover."""
        questions = (*self.train, *self.held_out)
        return [text for q in questions for text in (q.text, *q.responses)]

    @property
    def log_d(self) -> np.ndarray:
        """[evaluation prompts, responses of the experts]"""
        return np.log([question.law for question in self.evaluation])

    def sft_draws(self, stage: str, count: int) -> list[Question]:
        """The prompts of ``count`` training examples of a stage, in training order."""
        rng = self._stream(SFT, stage)
        return [self.train[i] for i in rng.integers(len(self.train), size=count)]

    def expert_draws(self, stage: str, questions: Sequence[Question]) -> list[str]:
        """An expert's response y ~ d(.|x) to each question."""
        rng = self._stream(EXPERTS, stage)
        return [q.responses[rng.choice(len(q.law), p=q.law)] for q in questions]

    def rl_draws(self, stage: str, count: int) -> list[Question]:
        """The prompts of ``count`` groups of rollouts, in training order."""
        rng = self._stream(RL, stage)
        return [self.train[i] for i in rng.integers(len(self.train), size=count)]

    def number(self, purpose: int, stage: str) -> int:
        """A seed of its own for a purpose and a stage."""
        return int(self._stream(purpose, stage).integers(2**31))

    def _stream(self, purpose: int, stage: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, *stage.encode()])


def make_task(
    sentences: Sequence[Sentence],
    train: int,
    evaluation: int,
    seed: int,
    prompt_format: str = "plain",
) -> SampledTask:
    """Split the sentences at random into ``train`` and held-out ones, and draw the evaluation prompts.

    Raises:
        DataError: no sentence would be left to evaluate on, or only one label is left on a side.
    """
    if len(sentences) < train + 2:
        raise DataError(
            f"--train-prompts is {train}, but there are only {len(sentences)} sentences and some must be held out "
            "for evaluation; lower it, or bring more data"
        )
    order = np.random.default_rng([seed, SPLIT]).permutation(len(sentences))
    questions = [_question(index, sentences[i], prompt_format) for index, i in enumerate(order)]
    held_out = questions[train:]
    drawn = np.random.default_rng([seed, EVALUATION]).integers(len(held_out), size=evaluation)
    sides = {"training": questions[:train], "evaluation": held_out}
    for side, some in sides.items():
        if len({question.label for question in some}) < 2:
            raise DataError(
                f"the {side} sentences all have the label {some[0].label!r}; bring more data with both labels"
            )
    return SampledTask(
        tuple(questions[:train]), tuple(held_out), tuple(held_out[i] for i in drawn), seed
    )


def _question(index: int, sentence: Sentence, prompt_format: str) -> Question:
    right = LABELS[0] if sentence.acceptable else LABELS[1]
    wrong = LABELS[1] if sentence.acceptable else LABELS[0]
    styles, text = STYLES, f"Sentence: {sentence.text}\nIs it acceptable or unacceptable?"
    if prompt_format == "chat":
        styles = tuple(style.strip() for style in styles)
    else:
        text += "\nAnswer:"
    law = expert_law(index, styles, (right, wrong), LABEL_NOISE)
    return Question(
        text=text,
        label=right,
        place=sentence.place,
        responses=tuple(one.text for one in law),
        law=tuple(one.probability for one in law),
    )


def columns(questions: Sequence[Question]) -> Iterator[dict[str, str]]:
    """What a reward function receives for each prompt, next to prompt and completion."""
    for question in questions:
        yield {"prompt": question.text, "label": question.label, "place": question.place}
