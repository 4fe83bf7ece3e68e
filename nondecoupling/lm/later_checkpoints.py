"""Log-probabilities of collected responses under a later checkpoint: what training has done to the SFT loss."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nondecoupling.collected import CollectedSamples
from nondecoupling.estimate.arguments import Array
from nondecoupling.lm.digests import tokenizer_digest
from nondecoupling.lm.errors import CollectError
from nondecoupling.lm.language_model import LanguageModel
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse

__all__ = ["score"]


def score(
    checkpoint: LanguageModel, file: str | Path, *, name: str | int, rows_at_once: int = 64
) -> CollectedSamples:
    """Adds the checkpoint's log-probabilities of all responses in the file to the file, under ``name``.

    ``name`` says which checkpoint it is, best by its step. The file is replaced in one step. The rise of the SFT loss
    on the start policy's own data is then the mean of ``log_ref - log_p(name)``, in nats per response.

    Raises:
        CollectError: another tokenizer, a name that is no word or that the file has already.

    Example:
        >>> import tempfile
        >>> from nondecoupling.lm import collect, tiny_qwen3
        >>> tiny = tiny_qwen3(["Is it red?", "Is it blue?", " Yes."], seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/ref.parquet"
        ...     found = collect(
        ...         tiny.model, tiny.tokenizer, ["Is it red?", "Is it blue?"],
        ...         lambda prompts, **_: [1.0] * len(prompts),
        ...         k=2, reward_bounds=(0, 1), max_tokens=2, out=file,
        ...     )
        ...     found = score(tiny, file, name=200)
        >>> found.later, bool(abs(found.log_p(200) - found.log_ref).max() < 1e-5)
        (['200'], True)
    """
    found = CollectedSamples.read(file)
    label = str(name)
    if not re.fullmatch(r"[\w.-]+", label):
        raise CollectError(
            f"name={name!r}: give a step, or a word of letters, digits, '_', '.', '-'"
        )
    if label in found.later:
        raise CollectError(f"name={name!r}: {file} has a checkpoint of that name; give another")
    if tokenizer_digest(checkpoint.tokenizer) != found.origin.tokenizer_digest:
        raise CollectError(
            f"{file} was collected with another tokenizer than that of {checkpoint.description}; score checkpoints of "
            "the run that started from the collected model"
        )
    experts = _scores(checkpoint, found, rows_at_once, experts=True) if found.has_experts else None
    scored = found.with_later(label, _scores(checkpoint, found, rows_at_once), experts)
    scored.write(file)
    return scored


def _scores(
    checkpoint: LanguageModel, found: CollectedSamples, rows_at_once: int, *, experts: bool = False
) -> Array:
    """[prompts, responses]"""
    pairs = []
    for row in range(len(found.prompts)):
        prompt, responses = found.tokens(row, experts=experts)
        pairs += [PromptResponse(prompt, response) for response in responses]
    return np.reshape(log_probs(checkpoint, pairs, rows_at_once), (len(found.prompts), -1))
