"""Texts as the tokens that the model is asked about: the one place where a prompt or a response is tokenised.

A response is whole: it ends in the end-of-sequence token, once, and the empty response is that token alone. It is cut
into the tokens of its own text, unless these, behind the prompt's, would be another text. Tokenizers such as Llama 2's
put a space before every text; then it is cut together with the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nondecoupling.estimate.arguments import shown
from nondecoupling.lm.errors import ResponseError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "PromptResponse",
    "check_one_tokenisation",
    "prompt_and_responses",
    "prompt_response",
    "prompt_tokens",
    "require_known",
    "require_texts",
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
    """The tokens of a prompt, with what the tokenizer puts before it, without an end-of-sequence token put behind it.

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
    """The tokens of a text without an end that the tokenizer put behind it; one that the text ends in stays."""
    end = tokenizer.eos_token_id
    if ids and ids[-1] == end:
        written = _tokens_of_text(tokenizer, text)
        if _ends_behind(ids, end) > _ends_behind(written, end):
            ids = ids[:-1]
    if not ids:
        raise ResponseError(
            f"the prompt {text!r} has no tokens, so there is nothing that the model could continue; give it a text"
        )
    return ids


def _tokens_of_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _ends_behind(ids: Sequence[int], end: int) -> int:
    return next((n for n, token in enumerate(reversed(ids)) if token != end), len(ids))


def text_or_chat_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Any,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """``prompt_tokens`` of a text; of chat messages, what the tokenizer's chat template makes of them.

    ``chat_template_kwargs`` are the template's further arguments, as TRL's trainers have them.

    Raises:
        ResponseError: a text has no tokens, or there is no template for these messages.
    """
    if isinstance(prompt, str):
        return prompt_tokens(tokenizer, prompt)
    try:
        rendered: Any = tokenizer.apply_chat_template(
            prompt,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **(chat_template_kwargs or {}),
        )
    except Exception as error:  # a template raises what it likes
        raise ResponseError(
            f"the chat {shown(prompt)} does not go through the tokenizer's chat template ({error}); give messages "
            "that it takes, or a text"
        ) from error
    return list(rendered["input_ids"])


def require_texts(name: str, texts: Sequence[str]) -> None:
    """
    Raises:
        ResponseError: it is one text, whose letters would be taken for texts.
    """
    if isinstance(texts, str):
        raise ResponseError(f"{name}={shown(texts)} is one text: give a list of texts")


def require_known(tokenizer: PreTrainedTokenizerBase, prompt: Any, ids: Sequence[int]) -> None:
    """
    Raises:
        ResponseError: among the tokens of a prompt is one that stands for what the tokenizer does not know.
    """
    unknown, other_uses = tokenizer.unk_token_id, (tokenizer.bos_token_id, tokenizer.eos_token_id)
    if unknown in ids and unknown not in other_uses and tokenizer.unk_token not in str(prompt):
        raise ResponseError(
            f"the tokenizer has no token for a part of the prompt {shown(prompt)}, so that the model would be asked "
            "about another; change the prompt, or leave it out"
        )


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
    """The tokens of a whole response by itself, with the end-of-sequence token: its own, where its text ends in it.

    Raises:
        ResponseError: a part of it is unknown to the tokenizer, or it goes on behind its end.
    """
    return _whole(tokenizer, text, _tokens_of_text(tokenizer, text))


def _whole(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> list[int]:
    end = tokenizer.eos_token_id
    before = ids[:-1] if ids[-1:] == [end] else ids
    # First, since the tokenizer of GPT-2 has the end for what it does not know.
    if end in before:
        raise ResponseError(
            f"the response {text!r} goes on behind {tokenizer.eos_token!r}, the end-of-sequence token, which no "
            "response of the model does; let it end there"
        )
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in before:
        raise ResponseError(
            f"the tokenizer has no token for a part of the response {text!r}; change the response"
        )
    return [*before, end]


def prompt_and_responses(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Any,
    texts: Sequence[str],
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[list[int], list[list[int]]]:
    """The tokens of a prompt, as in ``text_or_chat_tokens``, and of the whole responses that follow it.

    Raises:
        ResponseError: what ``text_or_chat_tokens`` and ``response_tokens`` refuse, or no cut gives the text of both.
    """
    start = text_or_chat_tokens(tokenizer, prompt, chat_template_kwargs)
    require_known(tokenizer, prompt, start)
    return start, [
        _whole(tokenizer, text, _behind(tokenizer, prompt, start, text, chat_template_kwargs))
        for text in texts
    ]


def prompt_response(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str
) -> PromptResponse:
    """Both as tokens."""
    start, (whole,) = prompt_and_responses(tokenizer, prompt, [response])
    return PromptResponse(start, whole)


def _behind(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Any,
    start: list[int],
    text: str,
    chat_template_kwargs: Mapping[str, Any] | None,
) -> list[int]:
    """The tokens of ``text`` that, behind those of the prompt, are read as its text and then ``text``."""
    alone = _tokens_of_text(tokenizer, text)
    read = _read(tokenizer, [*start, *alone])
    if read == _read(tokenizer, start) + text:
        return alone
    # A tokenizer may lower cases or know no such character: then its own cut of both is what to compare with.
    joint = _joint_tokens(tokenizer, prompt, text, chat_template_kwargs)
    if read == _read(tokenizer, joint):
        return alone
    if joint[: len(start)] != start:
        raise ResponseError(
            f"the prompt {shown(prompt)} and the response {text!r} have no common cut into tokens: behind the prompt's "
            f"the response's are read as {read!r}, and both texts together begin with other tokens than the prompt; "
            "move a space at the prompt's end to the response, or let the prompt end where a word ends"
        )
    return joint[len(start) :]


def _joint_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Any,
    text: str,
    chat_template_kwargs: Mapping[str, Any] | None,
) -> list[int]:
    if isinstance(prompt, str):
        return prompt_tokens(tokenizer, prompt + text)
    chat = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, tokenize=False, **(chat_template_kwargs or {})
    )
    return _tokens_of_text(tokenizer, f"{chat}{text}")


def _read(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    # Cleaning up would take away the spaces that are looked for.
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
