"""The sentences and the reward of a run, and the certainty that a resumed run still has the same ones.

A configuration names files and functions. What they say can change while a run is stopped, and everything measured
before would then be read against other sentences or rewards: a run therefore records a digest of each.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from validate.configuration import SampledConfiguration
from validate.run_folder import RunFolder
from validate.sampled.rewards import BUILT_IN, CheckedReward, load_reward
from validate.sampled.sentence import Sentence
from validate.sampled.sentences import GRAMMAR, load_sentences
from validate.sampled.task import SampledTask, make_task

__all__ = ["Inputs", "inputs_of", "task_of"]

# Sentences that the grammar writes beside those to train on.
HELD_OUT = 1000


@dataclass(frozen=True)
class Inputs:
    """SHA-256 of the inputs from outside; what comes with this program is known by its commit."""

    task: SampledTask
    reward: CheckedReward
    digests: dict[str, str]


def task_of(
    config: SampledConfiguration,
    sentences: Sequence[Sentence],
    held_out: Sequence[Sentence] | None = None,
) -> SampledTask:
    evaluation = config.pilot_prompts + config.eval_prompts
    return make_task(
        sentences, config.train_prompts, evaluation, config.seed, config.prompt_format, held_out
    )


def inputs_of(config: SampledConfiguration, folder: RunFolder) -> Inputs:
    """What the configuration of the run names.

    Raises:
        RunFolderError: it is not what the run began with.
    """
    digests: dict[str, str] = {}
    sentences = load_sentences(config.data, config.train_prompts + HELD_OUT)
    reward = load_reward(config.reward)
    held_out = load_sentences(config.eval_data) if config.eval_data else None
    if config.data != GRAMMAR:
        digests["data"] = _digest(sentences)
    if held_out is not None and config.eval_data != GRAMMAR:
        digests["eval_data"] = _digest(held_out)
    if config.reward not in BUILT_IN:
        digests["reward"] = _sha256(_source_of(config.reward))
    folder.must_have(digests, config)
    return Inputs(task_of(config, sentences, held_out), reward, digests)


def _source_of(reward: str) -> bytes:
    file = getattr(sys.modules[reward.partition(":")[0]], "__file__", None)
    return Path(file).read_bytes() if file else reward.encode()


def _digest(sentences: Sequence[Sentence]) -> str:
    return _sha256(repr([(s.text, s.acceptable, s.source) for s in sentences]).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
