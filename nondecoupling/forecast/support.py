"""Which betas the samples can speak about.

Reweighting k responses of ref to the tilt needs k well above e^{KL(tilt||ref)} (Chatterjee and Diaconis 2018), and the
KL that the samples show is at most log k whatever the truth. The effective sample size is no safeguard either: a
prompt without a success has equal weights. So the KL is that of the samples with a response of the highest reward
added to each prompt, which k samples miss with chance 1/e if its probability is 1/k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.samples import Samples

# Responses for each of the e^KL that reweighting needs at least.
RESPONSES_PER_NEED = 4.0
LARGEST_SHARE_WITHOUT_SPREAD = 0.5


@dataclass(frozen=True)
class UnsupportedBeta:
    """The answer at a beta about which the samples say nothing reliable; ``responses_needed`` may not be enough.

    ``prompts_without_spread``: the share of prompts whose responses all have one reward. ``responses``: drawn for
    each prompt.
    """

    beta: float
    reason: str
    responses: int
    responses_needed: int
    prompts_without_spread: float

    def __str__(self) -> str:
        return (
            f"beta = {self.beta:.4g} is not supported: {self.reason}; draw at least {self.responses_needed} responses "
            "to each prompt"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"unsupported": str(self), **vars(self)}


@dataclass(frozen=True)
class UnsupportedRecipe:
    """The answer for a trainer that ends nowhere, or nowhere that is known; ``beta`` is None where no beta helps."""

    beta: float | None
    reason: str

    def __str__(self) -> str:
        at = "the recipe" if self.beta is None else f"the recipe at beta = {self.beta:.4g}"
        return f"{at} is not supported: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        return {"unsupported": str(self), **vars(self)}


Unsupported = UnsupportedBeta | UnsupportedRecipe
# (log_ref, reward) -> log_p, where training at some beta ends
End = Callable[[Array, Array], Array]


def unsupported(samples: Samples, beta: float, end: End | None = None) -> UnsupportedBeta | None:
    """Why the samples do not support where training at this beta ends, without ``end`` the tilt; None where they do."""
    k, without = samples.responses, share_without_spread(samples)
    drawn, laws = samples.drawn, samples.with_one_best
    law = end(*laws.law) if end else bounds.gibbs_tilt(*laws.law, beta)
    # A mean of e^KL: a few prompts on which RL goes far are what its estimates miss.
    needs = RESPONSES_PER_NEED * np.exp(bounds.kl_divergence(law, laws.log_d))[laws.place]
    need = math.ceil(float(drawn.average(needs)))
    if without > LARGEST_SHARE_WITHOUT_SPREAD:
        reason = f"{without:.0%} of the prompts show one reward only"
        return UnsupportedBeta(beta, reason, k, max(need, 2 * k), without)
    if drawn.average(needs / drawn.counts) > 1:
        reason = (
            f"RL would move {math.log(need / RESPONSES_PER_NEED):.2g} nats from the start policy, too far for {k} "
            f"responses to each prompt (log k = {math.log(k):.2g})"
        )
        return UnsupportedBeta(beta, reason, k, max(need, k + 1), without)
    return None


def out_of_reach(samples: Samples, beta: float, target: float) -> UnsupportedBeta:
    """The answer for an average reward that no beta down to this one gives to the sampled responses."""
    reason = f"reweighted to it, the sampled responses do not have an average reward of {target:g}"
    k = samples.responses
    return UnsupportedBeta(beta, reason, k, 2 * k, share_without_spread(samples))


def share_without_spread(samples: Samples) -> float:
    drawn = samples.drawn
    first = np.take_along_axis(drawn.rewards, drawn.mask.argmax(axis=1)[:, None], axis=1)
    same = np.where(drawn.mask, drawn.rewards == first, True).all(axis=1)
    return float(drawn.average(np.where(same, 1.0, 0.0)))
