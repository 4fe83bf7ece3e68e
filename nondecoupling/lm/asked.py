"""The prompts that ``collect`` is asked about, with their columns and experts, checked and as tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nondecoupling.collected import prompt_label
from nondecoupling.estimate.arguments import shown
from nondecoupling.lm.errors import CollectError
from nondecoupling.lm.tokens import prompt_and_responses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Asked", "asked_of", "expert_texts", "is_text_or_chat"]


@dataclass(frozen=True)
class Asked:
    """A prompt: as the user gave it, as tokens, with its other columns and its experts' responses."""

    prompt: Any
    tokens: list[int]
    columns: dict[str, Any]
    experts: list[str]
    expert_tokens: list[list[int]]

    @property
    def label(self) -> str:
        return prompt_label(self.prompt)

    @property
    def is_text(self) -> bool:
        return isinstance(self.prompt, str)

    def text(self) -> bytes:
        """What its responses depend on."""
        return json.dumps([self.label, self.tokens, self.experts]).encode()

    def facts(self) -> bytes:
        """What else its rewards depend on."""
        return json.dumps(self.columns, sort_keys=True, default=str).encode()

    def completion(self, text: str) -> Any:
        """As TRL gives it to a reward function: a message where the prompt is a chat."""
        return text if self.is_text else [{"role": "assistant", "content": text}]


def asked_of(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[Any],
    experts: Sequence[str] | Sequence[Sequence[str]] | None,
    chat_template_kwargs: Mapping[str, Any],
) -> list[Asked]:
    """
    Raises:
        CollectError: a prompt or its experts are of another kind than ``collect`` takes, or are given twice.
        ResponseError: one has no tokens that the model could be asked about.
    """
    given = _listed("prompts", prompts, "a text, a chat, or a row")
    if not given:
        raise CollectError("prompts is empty: give at least one")
    responses = (
        None if experts is None else _listed("experts", experts, "one text, or a list of texts,")
    )
    if responses is not None and len(responses) != len(given):
        raise CollectError(
            f"experts has {len(responses)} entries for {len(given)} prompts: give one text, or a list of texts, for "
            "each"
        )
    found: list[Asked] = []
    for place, entry in enumerate(given):
        columns = dict(entry) if isinstance(entry, Mapping) else {"prompt": entry}
        prompt = columns.pop("prompt", None)
        if not is_text_or_chat(prompt):
            raise CollectError(
                f"prompts[{place}]={shown(entry)}: give a text, a chat, or a row with a column 'prompt' that is one"
            )
        texts = [] if responses is None else expert_texts(f"experts[{place}]", responses[place])
        tokens, whole = prompt_and_responses(tokenizer, prompt, texts, chat_template_kwargs)
        found.append(Asked(prompt, tokens, columns, texts, whole))
    _check(found)
    return found


def is_text_or_chat(prompt: Any) -> bool:
    """A chat is a list of messages, each with the role of who says it."""
    if isinstance(prompt, str):
        return True
    listed = isinstance(prompt, Sequence) and bool(prompt)
    return listed and all(isinstance(one, Mapping) and "role" in one for one in prompt)


def expert_texts(name: str, value: Any) -> list[str]:
    """The expert responses to one prompt; ``name`` is what an error calls them.

    Raises:
        CollectError: neither a text nor a list of texts.
    """
    if isinstance(value, str):
        return [value]
    if _is_list(value) and all(isinstance(text, str) for text in value):
        return list(value)
    raise CollectError(
        f"{name}={shown(value)}: give a text or a list of texts, as many for each prompt; leave out prompts that have "
        "none"
    )


def _listed(name: str, values: Any, each: str) -> list[Any]:
    if _is_list(values):
        return list(values)
    raise CollectError(f"{name}={shown(values)}: give a list with {each} for each prompt")


def _is_list(value: Any) -> bool:
    """Not a text, whose characters could be taken for entries, or a row, whose keys could."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def _check(asked: list[Asked]) -> None:
    places: dict[str, int] = {}
    for place, one in enumerate(asked):
        earlier = places.setdefault(one.label, place)
        if earlier != place:
            raise CollectError(
                f"prompts[{place}]={shown(one.prompt)} is prompts[{earlier}] again: give each prompt once; k says how "
                "many responses"
            )
        if len(one.experts) != len(asked[0].experts):
            raise CollectError(
                f"experts[{place}] has {len(one.experts)} texts, experts[0] {len(asked[0].experts)}: give as many for "
                "each prompt"
            )
