"""What goes wrong with a language model, its tokenizer or the processes that share it."""

__all__ = [
    "CollectError",
    "LanguageModelError",
    "ModelError",
    "ProcessesError",
    "ResponseError",
    "RewardFunctionError",
]


class LanguageModelError(Exception):
    """Base of the errors below; the message says what was looked at and the remedy."""


class ModelError(LanguageModelError):
    """A model could not be loaded, or cannot be trusted to give the law that it samples from."""


class ResponseError(LanguageModelError, ValueError):
    """A prompt or a response has no tokens that the model could be asked about."""


class ProcessesError(LanguageModelError):
    """What was asked for cannot be shared among the processes of this run, or another one of them stopped."""


class RewardFunctionError(LanguageModelError, ValueError):
    """A reward function raised, or returned something that is no reward of each response within the bounds."""


class CollectError(LanguageModelError, ValueError):
    """A file or folder of samples is of another model, prompts or settings, or damaged, or another call has it."""
