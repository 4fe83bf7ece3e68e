"""Where the theory says that an order without a leash in its RL, or without RL, ends.

    alternate      the frontier policy of the data at beta = SFT steps : RL steps (T6, in the limit of short cycles)
    best-of-n      the law of the best of n draws from ref (T7)
    weighted-sft   S5's frontier policy beta ref/(mu - r), or the tilt (T9, in the limit of large groups)

RL with a leash and joint training end where ``nondecoupling.bounds`` says of their beta.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nondecoupling import bounds
from validate.configuration import ALTERNATE, OWN_RESPONSES, SampledConfiguration
from validate.pareto import Landscape
from validate.same_reward import Optimum

__all__ = ["HAVE_AN_END", "WEIGHTED", "End", "end_of"]

HAVE_AN_END = (ALTERNATE, *OWN_RESPONSES)
# Ends of weighted SFT by the weights: from log_ref, reward and beta to log p.
WEIGHTED: dict[str, Optimum] = {
    "frontier": bounds.forward_leash_optimum,
    "exponential": bounds.gibbs_tilt,
}


class End(NamedTuple):
    """log p, [prompts, responses], what trains towards it, at which beta if it has one, and the statement."""

    name: str
    beta: float | None
    statement: str
    log_p: np.ndarray


def end_of(config: SampledConfiguration, land: Landscape) -> End:
    """Of an order in ``HAVE_AN_END``, in the finite world ``land``."""
    if config.order == ALTERNATE:
        beta = config.alternation_beta
        name = f"alternation, cycles of {sum(config.cycle())}, after {config.finish}"
        return End(name, beta, "T6", bounds.forward_leash_optimum(land.log_d, land.reward, beta))
    if config.order == "best-of-n":
        best = bounds.best_of_n_policy(land.log_ref, land.reward, config.best_of)
        return End(f"best of {config.best_of}", None, "T7", best)
    weighted = WEIGHTED[config.weights](land.log_ref, land.reward, config.beta)
    return End(f"weighted-sft, {config.weights}", config.beta, "T9", weighted)
