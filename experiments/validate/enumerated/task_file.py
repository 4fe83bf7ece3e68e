"""An enumerated task of one's own: a file of JSON lines, each a prompt with all that is said about it.

    {"prompt": "Susan revealed", "responses": [" herself.", " themselves."], "law": [0.9, 0.1], "rewards": [1, 0]}

``responses`` are the candidates, with the space that a response begins with; each is closed by the end-of-sequence
token, and every prompt has the same number of them. ``law`` is the data law: their probabilities, which SFT learns.
``rewards`` are what RL maximises. ``other``, the reward of everything that is not listed, is 0 if left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validate.enumerated.task import EnumeratedTask, Prompt
from validate.errors import InputError

__all__ = ["load_task"]

FIELDS = {"prompt", "responses", "law", "rewards"}
OPTIONAL = {"other"}
# How far a law that was written with a few digits may be from 1 in sum.
ROUNDING = 1e-6
PROBLEMS_SHOWN = 10


def load_task(path: Path) -> EnumeratedTask:
    """
    Raises:
        InputError: the file cannot be read, or is no task; the message lists what is wrong, line by line.
    """
    prompts: list[tuple[int, Prompt]] = []
    problems: list[str] = []
    for number, text in enumerate(_lines_of(path), start=1):
        values, wrong = _read(text)
        wrong = wrong or list(_problems(values))
        problems += [f"line {number}: {problem}" for problem in wrong]
        if not wrong:
            prompts.append((number, _prompt(values)))
    problems += _problems_between(prompts)
    if problems:
        shown = problems[:PROBLEMS_SHOWN]
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        first = f", the first {len(shown)}" if len(shown) < len(problems) else ""
        raise InputError("\n  ".join([f"--task {path}: {count}{first}:", *shown]))
    return EnumeratedTask(tuple(prompt for _, prompt in prompts))


def _lines_of(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"--task {path} could not be read ({error.strerror}); give facts, or the path of a file of JSON lines"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"--task {path} is not UTF-8 ({error}); save it as UTF-8") from None
    if not text.strip():
        raise InputError(f"--task {path} is empty; write one JSON object per line and prompt")
    return text.rstrip("\n").split("\n")


def _read(text: str) -> tuple[dict[str, Any], list[str]]:
    """The object of a line, or why there is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, [f"no JSON ({error}); write one object per line"]
    if not isinstance(values, dict):
        return {}, [f"a {type(values).__name__} instead of an object with {_listed(FIELDS)}"]
    wrong = [f"{name} is missing" for name in sorted(FIELDS - values.keys())]
    unknown = sorted(values.keys() - FIELDS - OPTIONAL)
    wrong += [f"{name} is no field; there are {_listed(FIELDS | OPTIONAL)}" for name in unknown]
    return values, wrong


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _problems(values: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one prompt."""
    prompt, responses = values["prompt"], values["responses"]
    if not isinstance(prompt, str) or not prompt.strip():
        yield f"prompt is {prompt!r}; write a text"
    if not _is_list_of(responses, str) or len(responses) < 2 or not all(responses):
        yield f"responses is {responses!r}; list at least two texts"
        return
    if len(set(responses)) < len(responses):
        yield f"responses has {_twice(responses)!r} twice; leave one out, with its weight in the other"
    wrong = False
    for name in ("law", "rewards"):
        numbers = values[name]
        if not _is_list_of(numbers, int | float) or len(numbers) != len(responses):
            yield f"{name} is {numbers!r}; give a finite number for each of the {len(responses)} responses"
            wrong = True
    other = values.get("other", 0.0)
    if not _is_list_of([other], int | float):
        yield f"other is {other!r}; give a finite number, the reward of what is not listed"
        wrong = True
    if wrong:
        return
    law = values["law"]
    if min(law) < 0:
        yield f"law has the negative probability {min(law)}; write 0 or more"
    elif abs(math.fsum(law) - 1) > ROUNDING:
        yield f"law sums to {math.fsum(law):.6g}; divide by that, so that it sums to 1"
    if len({*values["rewards"], other}) == 1:
        yield f"all rewards are {other}, that of other included, so that RL has nothing to learn; change one"


def _is_list_of(found: object, kind: Any) -> bool:
    """Whether it is a list of texts, or of numbers that a float holds."""
    return isinstance(found, list) and all(
        isinstance(one, kind)
        and not isinstance(one, bool)
        and (isinstance(one, str) or abs(one) <= 1e300)
        for one in found
    )


def _twice(texts: list[str]) -> str:
    return next(text for text in texts if texts.count(text) > 1)


def _problems_between(prompts: list[tuple[int, Prompt]]) -> Iterator[str]:
    """What does not fit between lines that are each right."""
    first: dict[str, int] = {}
    for number, prompt in prompts:
        earlier = first.setdefault(prompt.text, number)
        if earlier != number:
            yield f"line {number}: the prompt of line {earlier} again; join the two laws in one line"
        size = len(prompts[0][1].responses)
        if len(prompt.responses) != size:
            yield (
                f"line {number}: {len(prompt.responses)} responses, where line {prompts[0][0]} has {size}; every "
                "prompt needs as many, of which some may have probability 0"
            )


def _prompt(values: dict[str, Any]) -> Prompt:
    total = math.fsum(values["law"])  # 1 but for rounding
    return Prompt(
        text=values["prompt"],
        responses=tuple(values["responses"]),
        data_law=tuple(share / total for share in values["law"]),
        reward=tuple(map(float, values["rewards"])),
        reward_other=float(values.get("other", 0.0)),
    )
