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
    held_out: Sequence[Sentence] | None = None,
) -> SampledTask:
    """Choose ``train`` of the sentences at random, and draw the evaluation prompts from ``held_out``, or the others.

    Of ``held_out``, sentences that are among the chosen ones are left out.

    Raises:
        DataError: no sentence would be left to evaluate on, or only one label is left on a side.
    """
    if held_out is None and len(sentences) < train + 2:
        raise DataError(
            f"--train-prompts is {train}, but there are only {len(sentences)} sentences and some must be held out "
            "for evaluation; lower it, or bring more data"
        )
    if len(sentences) < train:
        raise DataError(
            f"--train-prompts is {train}, but there are only {len(sentences)} sentences; lower it, or bring more data"
        )
    order = np.random.default_rng([seed, SPLIT]).permutation(len(sentences))
    chosen = [sentences[i] for i in order]
    if held_out is not None:
        seen = {sentence.text for sentence in chosen[:train]}
        chosen[train:] = [sentence for sentence in held_out if sentence.text not in seen]
        if len(chosen) == train:
            raise DataError(
                f"--eval-data has {len(held_out)} sentences, all of which are among those to train on; bring others, "
                "or leave it away"
            )
    questions = [_question(index, one, prompt_format) for index, one in enumerate(chosen)]
    kept = questions[train:]
    drawn = np.random.default_rng([seed, EVALUATION]).integers(len(kept), size=evaluation)
    sides = {"training": questions[:train], "evaluation": kept}
    for side, some in sides.items():
        if len({question.label for question in some}) < 2:
            raise DataError(
                f"the {side} sentences all have the label {some[0].label!r}; bring more data with both labels"
            )
    return SampledTask(tuple(questions[:train]), tuple(kept), tuple(kept[i] for i in drawn), seed)


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
