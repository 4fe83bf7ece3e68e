"""The task of a run, and the certainty that a resumed run still has the same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from validate.configuration import FACTS, EnumeratedConfiguration
from validate.enumerated.facts import embedded_task, vocabulary_texts
from validate.enumerated.task import EnumeratedTask
from validate.enumerated.task_file import load_task
from validate.errors import InputError

__all__ = ["EnumeratedInputs", "inputs_of"]


@dataclass(frozen=True)
class EnumeratedInputs:
    """The task, the texts that a tiny model's vocabulary covers, and SHA-256 of what comes from outside."""

    task: EnumeratedTask
    texts: list[str]
    digests: dict[str, str]


def inputs_of(config: EnumeratedConfiguration) -> EnumeratedInputs:
    """
    Raises:
        InputError: there is no such task, or it has fewer prompts than asked for.
    """
    if config.task == FACTS:
        return EnumeratedInputs(
            embedded_task(config.prompts, config.reward), vocabulary_texts(), {}
        )
    whole = load_task(Path(config.task))
    if config.prompts > len(whole.prompts):
        raise InputError(
            f"--prompts is {config.prompts}, but {config.task} has {len(whole.prompts)}; lower it, or leave it away"
        )
    digest = hashlib.sha256(repr(whole.prompts).encode()).hexdigest()
    task = EnumeratedTask(whole.prompts[: config.prompts or None])
    return EnumeratedInputs(task, whole.texts, {"task": digest})
