"""Whether what a run needs is installed, before it trains for hours and then cannot write its report."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from validate.configuration import ENUMERATED, SAMPLED
from validate.errors import RunError

__all__ = ["ANY_RUN", "PROTOCOL", "must_be_installed"]

ANY_RUN = ("torch", "transformers", "accelerate", "peft", "jinja2", "matplotlib")
PROTOCOL: dict[str, Sequence[str]] = {ENUMERATED: (), SAMPLED: ("trl", "datasets")}


def must_be_installed(modules: Sequence[str]) -> None:
    """
    Raises:
        RunError: one is not.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"this needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'nondecoupling[experiments]'"
        )
