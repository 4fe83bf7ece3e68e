"""What goes wrong with a language model, its tokenizer or the processes that share it."""

__all__ = ["LanguageModelError", "ModelError", "ProcessesError", "ResponseError"]


class LanguageModelError(Exception):
    """Base of the errors below; the message says what was looked at and the remedy."""


class ModelError(LanguageModelError):
    """A model could not be loaded, or cannot be trusted to give the law that it samples from."""


class ResponseError(LanguageModelError, ValueError):
    """A prompt or a response has no tokens that the model could be asked about."""


class ProcessesError(LanguageModelError):
    """What was asked for cannot be shared among the processes of this run."""
