"""The questions of a task as the model is asked them: as they are, or as turns in its tokenizer's chat template."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nondecoupling.lm.tokens import text_or_chat_tokens, tokens_of_prompts
from validate.errors import RunError
from validate.sampled.task import Question, SampledTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["as_asked"]


def as_asked(
    task: SampledTask, prompt_format: str, tokenizer: PreTrainedTokenizerBase
) -> SampledTask:
    """The task with its prompts as the model sees them.

    In a chat each is the text that the template makes of it, up to where the model's turn begins.

    Raises:
        RunError: the tokenizer has no template, or reads the text otherwise than the template is tokenised.
    """
    if prompt_format == "plain":
        return task
    if not tokenizer.chat_template:
        raise RunError(
            "--prompt-format is chat, but the model's tokenizer has no chat template; use --prompt-format plain, or a "
            "model that was trained for chat"
        )
    return replace(
        task,
        train=_turns(task.train, tokenizer),
        held_out=_turns(task.held_out, tokenizer),
        evaluation=_turns(task.evaluation, tokenizer),
    )


def _turns(
    questions: tuple[Question, ...], tokenizer: PreTrainedTokenizerBase
) -> tuple[Question, ...]:
    return tuple(replace(q, text=_turn(q.text, tokenizer)) for q in questions)


def _turn(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    messages = [{"role": "user", "content": text}]
    turn = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    tokens = text_or_chat_tokens(tokenizer, messages)
    # A template that writes the first token, and a tokenizer that puts it there too.
    for candidate in (turn, turn.removeprefix(str(tokenizer.bos_token or ""))):
        if tokens_of_prompts(tokenizer, [candidate]) == [tokens]:
            return candidate
    raise RunError(
        f"--prompt-format is chat, but the tokenizer reads {turn!r} otherwise than its template is tokenised; use "
        "--prompt-format plain"
    )
