"""Responses of ref that a stage is trained on: drawn once, in shares, and read back by every process and session.

Drawn again from the same seed they may be others, on another machine or with another number of processes; each
process would then train on its slice of a different set, and a resumed stage on what it has not seen. So they are
kept, a line of batches at a time, in ``training/<stage>/responses.jsonl`` until the stage ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.sampling import draw, text_of
from nondecoupling.lm.tokens import tokens_of_prompts
from validate.checksums import append_sealed_line, read_sealed_lines
from validate.errors import RunFolderError
from validate.sampled.measuring import rewards_of
from validate.sampled.rewards import CheckedReward
from validate.sampled.task import Question
from validate.sampled.training import newest_checkpoint

__all__ = ["RESPONSES", "DrawnResponse", "drawn_responses"]

RESPONSES = "responses.jsonl"
# Of each process in a line: what the network evaluates together.
ROWS_AT_ONCE = 256


class DrawnResponse(NamedTuple):
    """``reward`` is missing where none was asked for."""

    tokens: list[int]
    reward: float | None


def drawn_responses(
    place: Path,
    processes: Processes,
    language_model: LanguageModel,
    questions: Sequence[Question],
    max_tokens: int,
    seed: int,
    reward: CheckedReward | None,
    on_drawn: Callable[[int], None],
) -> list[DrawnResponse]:
    """A response of the model as it is to each question, those in the file first.

    ``on_drawn`` hears how many there are.

    Raises:
        RunFolderError: the file is damaged, or lacks responses that the stage was already trained on.
    """
    drawn = processes.from_first(_read(place, len(questions)) if processes.is_first else None)
    on_drawn(len(drawn))
    while len(drawn) < len(questions):
        first = len(drawn)
        some = questions[first : first + ROWS_AT_ONCE * processes.count]
        own_seed = np.random.SeedSequence([seed, first, processes.rank]).generate_state(1)[0]
        mine = _draw(language_model, processes.share(some), max_tokens, int(own_seed), reward)
        new = processes.together_list(mine)
        if processes.is_first:
            place.parent.mkdir(parents=True, exist_ok=True)
            append_sealed_line(place, {"responses": new})
        drawn += new
        on_drawn(len(drawn))
    return drawn


def _read(place: Path, wanted: int) -> list[DrawnResponse]:
    again = (
        f"add --restart-from {place.parent.name} to --resume: what was before that stage is kept"
    )
    try:
        lines = read_sealed_lines(place)
    except RunFolderError as error:
        raise RunFolderError(f"{error}; {again}") from None
    found = [DrawnResponse(*one) for line in lines for one in line["responses"]]
    if len(found) < wanted and newest_checkpoint(place.parent):
        raise RunFolderError(
            f"{place} has {len(found)} of {wanted} responses, of which the stage has been trained on some; {again}"
        )
    return found


def _draw(
    language_model: LanguageModel,
    questions: Sequence[Question],
    max_tokens: int,
    seed: int,
    reward: CheckedReward | None,
) -> list[DrawnResponse]:
    if not questions:  # a last line may have fewer questions than there are processes
        return []
    prompts = tokens_of_prompts(language_model.tokenizer, [q.text for q in questions])
    responses = draw(language_model, prompts, max_tokens, seed, ROWS_AT_ONCE)
    if reward is None:
        return [DrawnResponse(tokens, None) for tokens in responses]
    texts = [[text_of(language_model, tokens)] for tokens in responses]
    rewards = rewards_of(reward, questions, texts)
    return [DrawnResponse(*one) for one in zip(responses, rewards, strict=True)]
