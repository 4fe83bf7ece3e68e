"""How many samples a question needs, and what a number of samples can resolve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nondecoupling import bounds as exact
from nondecoupling.bounds.arrays import ArrayLike as RealArrayLike
from nondecoupling.bounds.arrays import FloatArray
from nondecoupling.estimate.arguments import (
    Array,
    PerWorld,
    checked_bounds,
    count_array,
    finite_array,
    positive_array,
    probability,
    require_one_shape,
)


def _standard_errors(delta: float, power: float) -> float:
    """z_{1 - delta/2} + z_power: how many standard errors from zero a mean must lie; positive."""
    delta, power = probability("delta", delta), probability("power", power)
    distance = float(special.ndtri(power) - special.ndtri(delta / 2))
    if distance <= 0:
        raise ValueError(
            f"power={power:g}: must be above delta/2={delta / 2:g}, with which a margin of 0 is confirmed; 0.9 is usual"
        )
    return distance


def _deviations(sd: ArrayLike) -> Array:
    sd = finite_array("sd", sd)
    if (sd < 0).any():
        raise ValueError(f"sd={sd.min()}: a standard deviation is at least 0")
    return sd


def required_samples(
    effect: ArrayLike,
    sd: ArrayLike,
    delta: float,
    power: float = 0.9,
    *,
    bounds: ArrayLike | None = None,
) -> PerWorld:
    """Independent units (prompts) after which a margin of size ``effect`` is confirmed, likely ``power``.

    n = ((z_{1-delta/2} + z_power) sd/effect)^2 for a normal interval and, in the limit, the bootstrap.
    With ``bounds``, for the empirical Bernstein interval: the n where effect =
    sd (sqrt(2 L) + z_power)/sqrt(n-1) + 7 R L/(3 (n-1)), L = log(4/delta), R the range; the betting
    interval usually needs fewer.

    Shapes: effect and sd (of one unit: per-prompt differences, from a pilot run) broadcast to
    ``[...]``. Units: both those of the margin. A plan, not a guarantee: sd is taken as known.
    Errors: effect <= 0, sd < 0, delta or power outside (0, 1), power <= delta/2. Source: S8, Maurer and
    Pontil 2009.

    >>> int(required_samples(effect=0.05, sd=0.4, delta=0.05))
    673
    >>> int(required_samples(effect=0.05, sd=0.4, delta=0.05, bounds=(-1, 1)))
    1882
    """
    effect, sd, z = (
        positive_array("effect", effect),
        _deviations(sd),
        _standard_errors(delta, power),
    )
    require_one_shape(effect=effect, sd=sd)
    if bounds is None:
        with np.errstate(over="ignore"):  # inf: more than a float can count
            return np.maximum(np.ceil((z * sd / effect) ** 2), 2.0)
    low, high = checked_bounds("bounds", bounds)
    share = math.log(4) - math.log(delta)
    linear = sd * (math.sqrt(2 * share) + float(special.ndtri(float(power))))
    square = 7 * (high - low) * share / 3
    # square s^2 + linear s = effect at s = 1/sqrt(n - 1)
    with np.errstate(over="ignore", divide="ignore"):
        s = 2 * effect / (linear + np.hypot(linear, np.sqrt(4 * square) * np.sqrt(effect)))
        return np.ceil(1 / s**2) + 1


def detectable_effect(
    samples: ArrayLike, sd: ArrayLike, delta: float, power: float = 0.9
) -> PerWorld:
    """The resolution of ``samples`` units: (z_{1-delta/2} + z_power) sd/sqrt(samples).

    The smallest margin that they confirm with probability ``power``; a smaller one stays, most
    likely, inconclusive, and then that is what a report must say.

    Shapes: samples and sd broadcast to ``[...]``. Units: those of sd. Errors: samples not whole or < 1,
    sd < 0, delta or power outside (0, 1), power <= delta/2. Source: S8.

    >>> round(float(detectable_effect(673, sd=0.4, delta=0.05)), 4)
    0.05
    """
    count, sd = count_array("samples", samples, 1), _deviations(sd)
    require_one_shape(samples=count, sd=sd)
    return _standard_errors(delta, power) * sd / np.sqrt(count)


def coupling_samples(
    log_d: RealArrayLike,
    reward: RealArrayLike,
    beta: RealArrayLike,
    delta: float,
    power: float = 0.9,
) -> FloatArray:
    """Samples y ~ d after which the coupling DeltaL of RL and SFT is confirmed, with chance ``power``.

    ``bounds.samples_to_detect`` at z = z_{1-delta/2} + z_power: n = z^2 Var_d(r)/(beta DeltaL)^2 for
    the paired change of the SFT loss, ref = d; about 4 z^2 beta^2/Var_d(r) for large beta.

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. inf where r is constant on
    supp d. Errors: as ``bounds.samples_to_detect``; delta or power outside (0, 1), power <= delta/2.
    Source: S8.

    >>> import numpy as np
    >>> float(np.ceil(coupling_samples(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 10.0, delta=0.05)))
    16826.0
    """
    return exact.samples_to_detect(log_d, reward, beta, _standard_errors(delta, power))
