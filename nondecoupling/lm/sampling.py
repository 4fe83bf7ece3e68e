"""Responses drawn from a language model's own law.

A response is what the model generates after the prompt, token by token at temperature 1 from the whole vocabulary,
until its end-of-sequence token, which counts, or until ``max_tokens``. So the law of responses is a proper law on a
finite tree, and it is the law that ``scoring`` scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch

from nondecoupling.lm.errors import ResponseError
from nondecoupling.lm.language_model import LanguageModel
from nondecoupling.lm.tokens import tokens_of_prompts

__all__ = ["draw", "sample_responses", "text_of"]


def sample_responses(
    language_model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    seed: int,
    rows_at_once: int = 256,
) -> list[str]:
    """The text of one response y ~ p(.|x) per prompt; repeat a prompt for several.

    Raises:
        ResponseError: ``max_tokens`` is less than 1, or there is no prompt.

    Example:
        >>> from nondecoupling.lm import tiny_qwen3
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> responses = sample_responses(model, ["Is it red?"] * 3, max_tokens=4, seed=1)
        >>> len(responses)
        3
    """
    if max_tokens < 1:
        raise ResponseError(f"max_tokens is {max_tokens}; it must be at least 1")
    if not prompts:
        raise ResponseError("prompts is empty; give at least one")
    tokens = tokens_of_prompts(language_model.tokenizer, prompts)
    drawn = draw(language_model, tokens, max_tokens, seed, rows_at_once)
    return [text_of(language_model, response) for response in drawn]


def draw(
    language_model: LanguageModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    seed: int,
    rows_at_once: int = 256,
) -> list[list[int]]:
    """One response y ~ p(.|x) per prompt, as tokens, from the model as it is.

    Sets torch's random seed. The draws depend on ``rows_at_once``, the rows that the network evaluates together.
    """
    responses: list[list[int]] = []
    torch.manual_seed(seed)
    for start in range(0, len(prompts), rows_at_once):
        responses += _generate(language_model, prompts[start : start + rows_at_once], max_tokens)
    return responses


def text_of(language_model: LanguageModel, response: Sequence[int]) -> str:
    """The text of a response, without its end-of-sequence token."""
    return str(language_model.tokenizer.decode(list(response), skip_special_tokens=True))


def _generate(
    language_model: LanguageModel, prompts: Sequence[list[int]], max_tokens: int
) -> list[list[int]]:
    length, end = max(map(len, prompts)), language_model.tokenizer.eos_token_id
    rows = [[end] * (length - len(p)) + p for p in prompts]
    seen = [[0] * (length - len(p)) + [1] * len(p) for p in prompts]
    device, generate = language_model.device, language_model.causal.generate
    with torch.no_grad():
        whole = cast(Callable[..., torch.Tensor], generate)(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(seen, device=device),
            generation_config=language_model.plain_sampling(max_tokens),
        )
    return [_until(end, row) for row in whole[:, length:].tolist()]


def _until(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
