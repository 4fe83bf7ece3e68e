"""What is reported of a policy at every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nondecoupling.lm.tolerances import mass_error
from validate.enumerated.means import PromptMeans

__all__ = ["Measures", "measures_of"]


@dataclass(frozen=True)
class Measures:
    """Means over prompts, in nats or reward units; None where there is no ref yet."""

    sft_loss: float
    eps: float
    reward: float
    regularized_reward: float | None
    kl_to_ref: float | None
    kl_to_tilt: float | None
    price_of_reward: float
    p_other: float
    mass_error: float
    smallest_p: float


def measures_of(
    mean: PromptMeans, log_p: NDArray[np.float64], log_ref: NDArray[np.float64] | None
) -> Measures:
    """``log_p`` and ``log_ref`` are [prompts, responses]; ``mean`` holds the data law and the reward."""
    return Measures(
        sft_loss=mean.ce(mean.log_d, log_p),
        eps=mean.kl(mean.log_d, log_p),
        reward=mean.j(log_p),
        regularized_reward=None if log_ref is None else mean.jb(log_p, log_ref),
        kl_to_ref=None if log_ref is None else mean.kl(log_p, log_ref),
        kl_to_tilt=None if log_ref is None else mean.kl(log_p, mean.tilt(log_ref)),
        price_of_reward=mean.price(mean.log_d, log_p),
        p_other=float(np.exp(log_p[:, -1]).mean()),
        mass_error=mass_error(log_p),
        smallest_p=float(np.exp(log_p).min()),
    )
