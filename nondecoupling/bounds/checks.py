"""Whether numbers are checked, and how a function is freed of that: for ``torch.compile`` and ``torch.func.vmap``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


SEARCHES = frozenset(
    {
        "alternation_limit",
        "alternation_rate",
        "approximate_price_of_reward",
        "best_early_stop",
        "critical_beta",
        "decoupling_threshold",
        "forward_leash_optimum",
        "frontier_policy",
        "frontier_rate",
        "frontier_weights",
        "gold_gain_bound",
        "group_normalized_success",
        "joint_gap",
        "joint_optimum",
        "joint_path",
        "joint_saving_bounds",
        "leashless_policy",
        "optimal_rl_duration",
        "overpayment",
        "pareto_frontier",
        "price_of_average_reward",
        "price_of_policy",
        "price_of_reward",
        "reward_change_extremes",
        "stationary_policy",
    }
)
"""Functions whose results are roots, or that choose among formulas by the numbers."""


class Checks(threading.local):
    """Whether this thread looks at the values of arguments."""

    def __init__(self) -> None:
        # In each thread's own dictionary: torch's compiler guards on what is there.
        self.on = True


CHECKS = Checks()


def about_values(check: Callable[P, None]) -> Callable[P, None]:
    """A check that ``unchecked`` leaves out, since it has to read numbers."""

    @wraps(check)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        if CHECKS.on:
            check(*args, **kwargs)

    return checked


def unchecked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function without the checks of values, so that it can be traced.

    What comes back is for ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and loops whose arguments were
    checked once. Shapes, dtypes and names are still checked, the numbers are not: laws that do not sum to one, a
    negative beta or NaN give wrong results without a word. A function that searches for a root is refused, since its
    loop ends when the numbers are right, which a trace cannot follow.

    Errors: ``ValueError`` naming a function that searches for a root, or that is none of ``bounds``.

    >>> import numpy as np
    >>> from nondecoupling import bounds
    >>> gap = bounds.unchecked(bounds.coupling_gap)
    >>> float(gap(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.1201...
    """
    name = getattr(function, "__name__", repr(function))
    if not getattr(function, "__module__", "").startswith("nondecoupling.bounds."):
        raise ValueError(f"function={name}: give a function of nondecoupling.bounds")
    if name in SEARCHES:
        raise ValueError(
            f"function={name}: it searches for a root, in a loop that ends when the numbers are right and cannot be "
            "traced; call it outside of what is compiled or mapped"
        )

    @wraps(function)
    def without(*args: P.args, **kwargs: P.kwargs) -> R:
        before = CHECKS.on
        CHECKS.on = False
        try:
            return function(*args, **kwargs)
        finally:
            CHECKS.on = before

    return without
