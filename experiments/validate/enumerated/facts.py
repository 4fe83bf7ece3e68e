"""Embedded prompts, candidate responses, their data law and their reward.

Every prompt has six candidate responses: three expert styles, each with the right answer and with a wrong one.

    terse    " Paris."                  no format
    chatty   " It is Paris."            no format
    formal   " Final answer: Paris."    the format that the reward asks for

The data law is known (``expert_law``) and gives mass to rewards of all levels. The reward is 1 for the right answer
plus 0.5 for the format, or only one of the two, and 0 for anything that is not on the list.
"""

from __future__ import annotations

from validate.enumerated.task import EnumeratedTask, Prompt
from validate.errors import InputError
from validate.expert_law import expert_law

__all__ = ["MAXIMUM_PROMPTS", "embedded_task", "vocabulary_texts"]

FORMAL = " Final answer: {}."
STYLES = (" {}.", " It is {}.", FORMAL)
LABEL_NOISE = (0.1, 0.2, 0.3)
# What the right answer is worth, and what the format.
REWARDS = {"right-and-format": (1.0, 0.5), "right": (1.0, 0.0), "format": (0.0, 1.0)}

# Country, its capital, another of its cities.
CAPITALS = (
    ("France", "Paris", "Lyon"),
    ("Italy", "Rome", "Milan"),
    ("Spain", "Madrid", "Barcelona"),
    ("Germany", "Berlin", "Munich"),
    ("Japan", "Tokyo", "Osaka"),
    ("Egypt", "Cairo", "Alexandria"),
    ("Greece", "Athens", "Sparta"),
    ("Poland", "Warsaw", "Krakow"),
    ("Canada", "Ottawa", "Toronto"),
    ("Turkey", "Ankara", "Istanbul"),
    ("Russia", "Moscow", "Kazan"),
    ("China", "Beijing", "Shanghai"),
    ("Austria", "Vienna", "Graz"),
    ("Norway", "Oslo", "Bergen"),
    ("Portugal", "Lisbon", "Porto"),
    ("Australia", "Canberra", "Sydney"),
)
SUMS = (
    (2, 2), (3, 4), (5, 1), (6, 2), (4, 4), (7, 3), (1, 8), (5, 6),
    (3, 3), (9, 2), (4, 1), (8, 5), (2, 5), (6, 6), (9, 7), (1, 1),
)  # fmt: skip
MAXIMUM_PROMPTS = len(CAPITALS) + len(SUMS)


def _prompt(
    index: int, question: str, right: str, wrong: str, worth: tuple[float, float]
) -> Prompt:
    law = expert_law(index, STYLES, (right, wrong), LABEL_NOISE)
    return Prompt(
        text=f"Question: {question}\nAnswer:",
        responses=tuple(one.text for one in law),
        data_law=tuple(one.probability for one in law),
        reward=tuple(worth[0] * one.right + worth[1] * (one.style == FORMAL) for one in law),
    )


def embedded_task(prompts: int, reward: str = "right-and-format") -> EnumeratedTask:
    """The first ``prompts`` of the embedded prompts, alternately a capital and a sum.

    Raises:
        InputError: ``prompts`` is not between 1 and ``MAXIMUM_PROMPTS``, or there is no such reward.
    """
    if not 1 <= prompts <= MAXIMUM_PROMPTS:
        raise InputError(f"prompts is {prompts}; choose 1 to {MAXIMUM_PROMPTS}")
    if reward not in REWARDS:
        raise InputError(
            f"--reward is {reward!r}; the enumerated protocol has {', '.join(REWARDS)}"
        )
    worth = REWARDS[reward]
    made: list[Prompt] = []
    for (country, capital, city), (a, b) in zip(CAPITALS, SUMS, strict=True):
        question = f"What is the capital of {country}?"
        made.append(_prompt(len(made), question, capital, city, worth))
        made.append(_prompt(len(made), f"What is {a} + {b}?", str(a + b), str(a + b + 1), worth))
    return EnumeratedTask(tuple(made[:prompts]))


def vocabulary_texts() -> list[str]:
    """Every text of the embedded task: what a word-level tokenizer must cover."""
    return embedded_task(MAXIMUM_PROMPTS).texts
