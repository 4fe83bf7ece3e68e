"""Texts as the tokens that the model is asked about: the one place where a prompt or a response is tokenised.

A response is whole: it ends in the end-of-sequence token, and the empty response is that token alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nondecoupling.estimate.arguments import shown
from nondecoupling.lm.errors import ResponseError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "PromptResponse",
    "check_one_tokenisation",
    "prompt_response",
    "prompt_tokens",
    "response_tokens",
    "text_or_chat_tokens",
    "tokens_of_prompts",
]


@dataclass(frozen=True)
class PromptResponse:
    """A prompt and a response, as tokens."""

    prompt: list[int]
    response: list[int]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a prompt, with what the tokenizer puts before it and without an end-of-sequence token behind it.

    Raises:
        ResponseError: there are none.
    """
    return tokens_of_prompts(tokenizer, [text])[0]


def tokens_of_prompts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """``prompt_tokens`` of each, by one call of the tokenizer.

    Raises:
        ResponseError: one has none.
    """
    every = _own_tokens(tokenizer, texts)
    return [_without_end(tokenizer, *one) for one in zip(texts, every, strict=True)]


def _own_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return [list(ids) for ids in tokenizer(list(texts))["input_ids"]] if texts else []


def _without_end(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> list[int]:
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    if not ids:
        raise ResponseError(
            f"the prompt {text!r} has no tokens, so there is nothing that the model could continue; give it a text"
        )
    return ids


def text_or_chat_tokens(tokenizer: PreTrainedTokenizerBase, prompt: Any) -> list[int]:
    """``prompt_tokens`` of a text; of chat messages, what the tokenizer's chat template makes of them.

    Raises:
        ResponseError: a text has no tokens, or there is no template for these messages.
    """
    if isinstance(prompt, str):
        return prompt_tokens(tokenizer, prompt)
    try:
        rendered: Any = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_dict=True
        )
    except Exception as error:  # a template raises what it likes
        raise ResponseError(
            f"the chat {shown(prompt)} does not go through the tokenizer's chat template ({error}); give messages "
            "that it takes, or a text"
        ) from error
    return list(rendered["input_ids"])


def check_one_tokenisation(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[list[int]]:
    """``tokens_of_prompts``, which a trainer that tokenises by itself, with the tokenizer's own settings, sees too.

    Raises:
        ResponseError: it would see something else, so that its policy would answer other prompts than are measured.
    """
    every = []
    for prompt, own in zip(prompts, _own_tokens(tokenizer, prompts), strict=True):
        ours = _without_end(tokenizer, prompt, own)
        if own != ours:
            behind = tokenizer.convert_ids_to_tokens(own[len(ours) :])
            raise ResponseError(
                f"the tokenizer puts {behind} behind the prompt {prompt!r}, so that a trainer would see another prompt "
                "than is measured; set its add_eos_token to false (or remove the end-of-sequence token from its "
                "post-processor), and save it"
            )
        every.append(ours)
    return every


def response_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a whole response, with the end-of-sequence token.

    Raises:
        ResponseError: a part of it is unknown to the tokenizer.
    """
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        raise ResponseError(
            f"the tokenizer has no token for a part of the response {text!r}; change the response"
        )
    return [*ids, tokenizer.eos_token_id]


def prompt_response(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str
) -> PromptResponse:
    """Both as tokens."""
    return PromptResponse(prompt_tokens(tokenizer, prompt), response_tokens(tokenizer, response))
