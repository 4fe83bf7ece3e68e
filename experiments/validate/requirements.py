"""Whether what a run needs is at hand, before it trains for hours and then cannot write its report."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

try:
    import resource
except ImportError:  # not POSIX: there is no such limit
    resource = None  # type: ignore[assignment]

from validate.configuration import ENUMERATED, SAMPLED
from validate.errors import RunError

__all__ = ["ANY_RUN", "PROTOCOL", "must_be_installed", "must_have_address_space"]

ANY_RUN = ("torch", "transformers", "accelerate", "peft", "jinja2", "matplotlib")
# The smallest run takes 1.2 to 1.3 GiB on two cores, nearly all of it by imports: torch, refused memory in the middle
# of one, may crash without a message.
LEAST_ADDRESS_SPACE = 3 * 2**29
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


def must_have_address_space() -> None:
    """
    Raises:
        RunError: the limit on it (`ulimit -v`) leaves importing torch and transformers no room.
    """
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise RunError(
            f"the limit on address space is {limit / 2**30:.3g} GiB; below {LEAST_ADDRESS_SPACE / 2**30:.3g} torch and "
            f"transformers may crash while they are imported: ulimit -v {LEAST_ADDRESS_SPACE // 2**10} or more"
        )
