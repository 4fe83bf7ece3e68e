"""Does the sampler draw from the policy that the scorer scores? Two tests of exact size, at any sample size.

Responses y are said to come from p. Temperature, top-p, a stale policy, another precision or a mask off by one
make that false without a sign elsewhere. A bootstrap of log-ratios cannot tell: for a sharp policy the rare tokens
that balance a mean are missing from most samples, and it rejects correct samplers. The tests here use, per token,
what a scorer knows of the whole vocabulary, and need no moments and no limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nondecoupling.estimate.arguments import (
    LARGEST,
    Array,
    PerWorld,
    probability,
    real_array,
    whole_number,
)
from nondecoupling.estimate.divergences import checked_mask
from nondecoupling.estimate.intervals import Outcome

# The temperatures that E bets on, in the order of ``log_sums``.
TEMPERATURES = (0.5, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 2.0)
# The nucleus is made of the tokens ranked first, until their mass is at least this.
NUCLEUS = 0.95
# By which probabilities computed in low precision may break the laws of probabilities.
SLACK = 1e-3
# V_t must be independent of what was sampled, also where a NumPy sampler had the same seed.
OWN_STREAM = int.from_bytes(b"randomised PIT")
# Phi^{-1} is finite between these.
LEAST_UNIFORM, LARGEST_UNIFORM = 2.0**-54, 1 - 2.0**-53


@dataclass(frozen=True)
class TokenScores:
    """What a scorer says of each token of responses; entries outside ``mask`` are ignored, NaN included.

    With p_t the scorer's law of token t given the text before it, over the whole vocabulary, without
    temperature or truncation, tokens ranked by decreasing p_t (ties in any fixed order, the same in
    all fields):

    - ``log_p``: log p_t(y_t); ``log_ref``: the same of another policy, which the sampler might be
      instead (the reference, the previous checkpoint);
    - ``log_sums``: A_t(tau) = log sum_v p_t(v)^{1/tau}, for the eight tau of ``TEMPERATURES``;
    - ``mass_before``: P_t(ranked before y_t);
    - ``nucleus_mass``: p_t(N), N the first tokens whose mass reaches 0.95; ``in_nucleus``: y_t in N;
    - ``mask``: true on the tokens of the response, its end-of-sequence token included.

    Shapes: ``[..., n, T]``, log_sums ``[..., n, T, 8]``. Units: nats; masses are probabilities.
    Errors: other shapes, no response or no token, NaN under the mask, values that no law has (positive
    log-probabilities, A_t(tau) of the wrong sign, infinite or below log_p/tau, masses outside [0, 1],
    membership that contradicts ``mass_before``), each by more than 1e-3; finite logs beyond 1e300 in
    size, whose sums overflow.
    """

    log_p: ArrayLike
    log_sums: ArrayLike
    mass_before: ArrayLike
    in_nucleus: ArrayLike
    nucleus_mass: ArrayLike
    log_ref: ArrayLike
    mask: ArrayLike


@dataclass(frozen=True)
class SamplerComparison:
    """What ``compare_sampler`` returns; all of it in the shape of the batch.

    ``log_e_value``: log E; ``pit_score``: z; ``p_value``: of both tests together, for the hypothesis
    that every token was drawn from the p_t that scored it; ``tokens``: how many were compared.
    """

    log_e_value: PerWorld
    pit_score: PerWorld
    p_value: PerWorld
    tokens: int

    def outcome(self, delta: float) -> Outcome | NDArray[np.object_]:
        """VIOLATED where the p-value is at most ``delta``, else INCONCLUSIVE: no sample shows equality.

        Errors: delta outside (0, 1), p-values outside [0, 1], NaN included.

        >>> SamplerComparison(5.0, 0.3, 0.0135, tokens=99).outcome(delta=0.05).value
        'violated'
        """
        p_value = real_array("p_value", self.p_value)
        known = (p_value >= 0) & (p_value <= 1)
        _refuse_where("p_value", ~known, p_value, "give one from 0 to 1, as compare_sampler does")
        rejected = p_value <= probability("delta", delta)
        outcomes = np.full(rejected.shape, Outcome.INCONCLUSIVE, dtype=object)
        outcomes[rejected] = Outcome.VIOLATED
        return outcomes[()]


def token_scores(
    log_probs: ArrayLike, tokens: ArrayLike, log_ref: ArrayLike, mask: ArrayLike
) -> TokenScores:
    """``TokenScores`` from log-probabilities over a whole small vocabulary: the definition, in NumPy.

    Shapes: log_probs ``[..., n, T, V]``, tokens (indices), log_ref and mask ``[..., n, T]``. Ties are
    ranked by index. Errors: other or empty shapes, tokens outside the vocabulary, NaN.

    >>> import numpy as np
    >>> law = np.log([[[0.5, 0.3, 0.2]]])
    >>> scores = token_scores(law, tokens=[[1]], log_ref=np.log([[0.4]]), mask=[[1]])
    >>> scores.mass_before.tolist(), scores.nucleus_mass.tolist(), scores.in_nucleus.tolist()
    ([[0.5]], [[1.0]], [[True]])
    """
    log_law, chosen = real_array("log_probs", log_probs), real_array("tokens", tokens)
    if log_law.ndim < 3 or chosen.shape != log_law.shape[:-1]:
        raise ValueError(
            f"tokens has shape {chosen.shape}, log_probs {log_law.shape}: give [..., n, T] and "
            "[..., n, T, V]"
        )
    _require_places("log_probs", log_law.shape, 3, "response, token and word of the vocabulary")
    if not np.isin(chosen, np.arange(log_law.shape[-1])).all():
        raise ValueError(f"tokens must be indices below {log_law.shape[-1]}, the vocabulary")
    if np.isnan(log_law).any() or (log_law == np.inf).any():
        raise ValueError(
            "log_probs holds NaN or inf: give log-probabilities, -inf where there are none"
        )
    off = special.logsumexp(log_law, axis=-1)
    _refuse_where("log_probs", np.abs(off) > SLACK, off, "the log of its sum; a law sums to 1")
    token = chosen.astype(int)[..., None]
    order = np.argsort(-log_law, axis=-1, kind="stable")
    ranked = np.exp(np.take_along_axis(log_law, order, axis=-1))
    before = np.cumsum(ranked, axis=-1) - ranked
    inside = before < NUCLEUS
    rank = np.argmax(order == token, axis=-1)[..., None]
    sums = [special.logsumexp(log_law / tau, axis=-1) for tau in TEMPERATURES]
    return TokenScores(
        log_p=np.take_along_axis(log_law, token, axis=-1)[..., 0],
        log_sums=np.stack(sums, axis=-1),
        mass_before=np.take_along_axis(before, rank, axis=-1)[..., 0],
        in_nucleus=np.take_along_axis(inside, rank, axis=-1)[..., 0],
        nucleus_mass=np.where(inside, ranked, 0.0).sum(axis=-1),
        log_ref=real_array("log_ref", log_ref),
        mask=checked_mask(mask, "tokens", chosen.shape),
    )


def _checked(name: str, scores: TokenScores, axes: tuple[int, ...] = ()) -> Array:
    """One field in float64, 0 outside the mask."""
    values = real_array(name, getattr(scores, name))
    shape = np.shape(scores.log_p) + axes
    if values.shape != shape or values.ndim < 2 + len(axes):
        raise ValueError(f"{name} has shape {values.shape}: log_p asks for {shape}, [..., n, T]")
    _require_places(name, values.shape, 2 + len(axes), "response and token")
    mask = checked_mask(scores.mask, "log_p", values.shape[: values.ndim - len(axes)])
    values = np.where(mask[(..., *[None] * len(axes))], values, 0.0)
    if np.isnan(values).any():
        where = ", ".join(str(i) for i in np.argwhere(np.isnan(values))[0])
        raise ValueError(f"{name}[{where}]=nan: must be a number wherever mask is true")
    wrong = np.isfinite(values) & (np.abs(values) > LARGEST)
    _refuse_where(name, wrong, values, f"at most {LARGEST:g} in size, or sums overflow")
    return values


def _require_places(name: str, shape: tuple[int, ...], axes: int, places: str) -> None:
    if 0 in shape[-axes:]:
        raise ValueError(f"{name} has shape {shape}: needs at least one {places}")


def _refuse_where(name: str, bad: NDArray[np.bool_], values: Array, why: str) -> None:
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f"{name}[{', '.join(map(str, index))}]" if index else name
        raise ValueError(f"{where}={values[index]:g}: {why}")


def _log_probabilities(name: str, scores: TokenScores) -> Array:
    values = _checked(name, scores)
    _refuse_where(name, values > SLACK, values, "a log-probability is at most 0")
    return values


def sampler_e_value(scores: TokenScores) -> PerWorld:
    """log E, E an e-value against "every token was drawn from the p_t that scored it".

    E = (1/16) sum_tau E_tau + E_ref/4 + E_nuc/4, with
    E_tau = exp sum over tokens of [(1/tau - 1) log p_t(y_t) - A_t(tau)], a bet on temperature tau;
    E_ref = product over responses of (1/2 + 1/2 ref(y)/p(y)), a bet on the other policy;
    E_nuc = product over tokens of (1/2 + 1/2 1{y_t in N}/p_t(N)), a bet on top-p sampling.
    Under the hypothesis every factor has conditional mean at most 1 given what came before, so E is
    a nonnegative supermartingale from 1: P(E >= 1/alpha) <= alpha, whatever the prompts, the lengths,
    and the rule by which sampling stops (Ville). A token of scored probability 0 gives inf.

    Shapes: as ``TokenScores`` -> ``[...]``. Assumes scores precise enough that their error times the
    number of tokens is small against 1. Errors: as ``TokenScores``. Source: Ville 1939; Grünwald, de Heide
    and Koolen 2024 on e-values.

    >>> import numpy as np
    >>> law = np.log(np.tile([0.5, 0.3, 0.2], (40, 5, 1)))
    >>> always_first = np.zeros((40, 5), dtype=int)  # as greedy decoding would
    >>> other = np.full((40, 5), np.log(1 / 3))  # the other policy is uniform
    >>> scores = token_scores(law, always_first, other, np.ones((40, 5)))
    >>> float(sampler_e_value(scores))  # log E; above log(1/0.001) = 6.9
    52.1...
    """
    log_p, log_ref = _log_probabilities("log_p", scores), _log_probabilities("log_ref", scores)
    sums = _checked("log_sums", scores, (len(TEMPERATURES),))
    bets = []
    for column, tau in enumerate(TEMPERATURES):
        log_sum = sums[..., column]
        name = f"log_sums (tau = {tau:g})"
        wrong = np.sign(tau - 1) * log_sum < -SLACK
        _refuse_where(
            name, wrong, log_sum, "log sum p^(1/tau) is below 0 for tau < 1, above for > 1"
        )
        wrong = log_sum < log_p / tau - SLACK
        _refuse_where(
            name, wrong, log_sum, "log sum p^(1/tau) is at least log_p/tau, one of its terms"
        )
        _refuse_where(name, np.isinf(log_sum), log_sum, "log sum p^(1/tau) is finite for every law")
        bets.append(((1 / tau - 1) * log_p - log_sum).sum(axis=(-2, -1)) - math.log(16))
    impossible = np.isneginf(log_p)
    ratio = (log_ref - np.where(impossible, 0.0, log_p)).sum(axis=-1)
    ratio = np.where(impossible.any(axis=-1), np.inf, ratio)
    bets.append(_half_and_half(ratio).sum(axis=-1) - math.log(4))
    inside, mass = _nucleus(scores)
    with np.errstate(divide="ignore"):
        favour = np.where(inside != 0, -np.log(mass), -np.inf)
    bets.append((_half_and_half(favour) * _kept(scores)).sum(axis=(-2, -1)) - math.log(4))
    return special.logsumexp(np.stack(bets), axis=0)[()]


def _half_and_half(log_factor: Array) -> Array:
    """log(1/2 + 1/2 e^x)"""
    return np.logaddexp(0.0, log_factor) - math.log(2)


def _kept(scores: TokenScores) -> NDArray[np.bool_]:
    return checked_mask(scores.mask, "log_p", np.shape(scores.log_p))


def _nucleus(scores: TokenScores) -> tuple[Array, Array]:
    """(membership, mass); mass 1 outside the mask."""
    kept = _kept(scores)
    inside, before = _checked("in_nucleus", scores), _mass_before(scores)
    mass = np.where(kept, _checked("nucleus_mass", scores), 1.0)
    _refuse_where("in_nucleus", (inside != 0) & (inside != 1), inside, "give true or false")
    wrong = (mass < NUCLEUS - SLACK) | (mass > 1 + SLACK)
    _refuse_where("nucleus_mass", wrong, mass, f"the nucleus has a mass from {NUCLEUS} to 1")
    wrong = kept & np.where(inside != 0, before > NUCLEUS + SLACK, before < NUCLEUS - SLACK)
    why = f"a token is in the nucleus where the mass ranked before it is below {NUCLEUS}"
    _refuse_where("in_nucleus", wrong, inside, why)
    return inside, np.minimum(mass, 1.0)


def _mass_before(scores: TokenScores) -> Array:
    before = _checked("mass_before", scores)
    wrong = (before < -SLACK) | (before > 1 + SLACK)
    _refuse_where("mass_before", wrong, before, "a mass lies between 0 and 1")
    return before


def sampler_pit(scores: TokenScores, *, max_tokens: int, seed: int = 0) -> PerWorld:
    """z of the randomised probability integral transform: standard normal if tokens come from p_t.

    U_t = P_t(ranked before y_t) + V_t p_t(y_t), V_t fresh and uniform, is uniform given the past, so
    z = sum Phi^{-1}(U_t)/sqrt N is nearly normal at any N, for any lengths: the sum runs over
    N = n max_tokens places, those after a response's end filled with fresh uniforms, so that N does
    not depend on what was sampled. Negative: likelier tokens than p says (a lower temperature, top-p);
    positive: less likely ones. n must have been chosen beforehand, and so must the seed: repeating
    the test with others until it passes, or fails, is no test.

    Shapes: as ``TokenScores`` -> ``[...]``. Errors: as ``TokenScores``; max_tokens below T, a negative
    seed. Source: Smith 1985, Brockwell 2007 (the randomised transform).

    >>> import numpy as np
    >>> law = np.log(np.tile([0.5, 0.3, 0.2], (40, 5, 1)))
    >>> drawn = np.random.default_rng(0).choice(3, p=[0.5, 0.3, 0.2], size=(40, 5))
    >>> mask = np.arange(5) < np.arange(1, 41)[:, None]
    >>> other = np.full((40, 5), np.log(1 / 3))
    >>> bool(abs(sampler_pit(token_scores(law, drawn, other, mask), max_tokens=8)) < 3)
    True
    >>> z = sampler_pit(token_scores(law, 0 * drawn, other, mask), max_tokens=8)  # greedy
    >>> bool(z < -3)
    True
    """
    log_p, before = _log_probabilities("log_p", scores), _mass_before(scores)
    kept = _kept(scores)
    longest = log_p.shape[-1]
    places = whole_number("max_tokens", max_tokens, longest)
    rng = np.random.default_rng([whole_number("seed", seed, 0), OWN_STREAM])
    uniform = before + rng.random(log_p.shape) * np.exp(np.minimum(log_p, 0.0))
    normal = special.ndtri(np.clip(uniform, LEAST_UNIFORM, LARGEST_UNIFORM))
    drawn = np.where(kept, normal, rng.standard_normal(log_p.shape)).sum(axis=(-2, -1))
    count = log_p.shape[-2] * places
    beyond = log_p.shape[-2] * (places - longest)
    padding = math.sqrt(beyond) * rng.standard_normal(drawn.shape)
    return ((drawn + padding) / math.sqrt(count))[()]


def compare_sampler(scores: TokenScores, *, max_tokens: int, seed: int = 0) -> SamplerComparison:
    """Both tests of sampler against scorer, each at half the level: rejects a true p with at most delta.

    p-value = min(1, 2 min(1/E, 2 Phi(-|z|))), with E of ``sampler_e_value`` and z of ``sampler_pit``.
    The first adapts to few tokens and any stopping, the second sees small, steady shifts. A batch
    tests each of its worlds at the level; several policies need a correction (delta over their number).

    Shapes: as ``TokenScores`` -> ``[...]``. Errors: as ``TokenScores``, ``sampler_pit``.

    >>> import numpy as np
    >>> law = np.log(np.tile([0.5, 0.3, 0.2], (40, 5, 1)))
    >>> drawn = np.random.default_rng(1).choice(3, p=[0.5, 0.3, 0.2], size=(40, 5))
    >>> other = np.full((40, 5), np.log(1 / 3))
    >>> scores = token_scores(law, drawn, other, np.ones((40, 5)))
    >>> compare_sampler(scores, max_tokens=5).outcome(delta=0.05).value
    'inconclusive'
    """
    log_e = sampler_e_value(scores)
    score = sampler_pit(scores, max_tokens=max_tokens, seed=seed)
    by_betting = np.exp(-np.maximum(log_e, 0.0))
    by_ranks = 2 * special.ndtr(-np.abs(score))
    p_value = np.minimum(1.0, 2 * np.minimum(by_betting, by_ranks))
    return SamplerComparison(log_e, score, p_value[()], int(_kept(scores).sum()))
