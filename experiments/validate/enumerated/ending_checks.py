"""What the second chapter says of a stage other than RL by J_b: rows for its checkpoints and for its end.

    S9, S5   what a checkpoint paid beyond the price of its reward, prompt by prompt and for the average
    T1       at p* nothing moves what is trained, whichever estimator of the reverse KL it has
    T2       the forward leash's objective, its optimum p*, and what the tilt with the reward of p* pays more
    T4       p* with normalised advantages is the tilt at beta/h(c)
    T7       what best of n pays, seen from ref
    T8       what replay keeps of the gain, and what it pays at most
    T9       weights: seen from ref, those of the frontier pay the price of their reward
    T11      the objective with an entropy bonus

Alternation has no row of its own: T6 is about natural gradient, and the network is trained by Adam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nondecoupling import bounds
from nondecoupling.formulas.trainers import forward_leash_gap
from nondecoupling.numbers.floats import floats_of
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.checks import IDENTITY, OPTIMUM, REWARD, TRAINED, Check, Place
from validate.enumerated.endings import Ending, recipe_of
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.means import PromptMeans

__all__ = ["ending_checks"]

Law = NDArray[np.floating[Any]]


def ending_checks(config: EnumeratedConfiguration, episode: Episode, kept: Law) -> Iterator[Check]:
    """Rows of an episode with an ending; ``kept`` is the law of RL's result, which replay mixes with the data."""
    assert episode.ending is not None
    mean, ending, ref = episode.mean, episode.ending, episode.ref
    for checkpoint in episode.rl:
        yield from _overpaid(mean, checkpoint)
    at = Place(mean, f"end of {episode.rl[-1].stage}", [mean.log_d, ref.log_p, ending.log_p])
    if ending.statement == "T1":
        yield _at_rest(config, at, mean, ref.log_p, ending)
    elif ending.statement == "T2":
        yield from _forward(mean, ref.log_p, episode.rl)
        yield from _on_the_frontier(at, "T2", mean, ref.log_p, ending)
    elif ending.statement == "T4":
        yield from _normalised(config, at, mean, ref.log_p, ending)
    elif ending.statement == "T7":
        yield from _best_of_n(config, at, mean, ref.log_p, ending)
    elif ending.statement == "T8":
        yield from _replayed(config, at, mean, kept, ending)
    elif ending.statement == "T9":
        if config.weights == "frontier":
            yield from _on_the_frontier(at, "T9", mean, ref.log_p, ending)
    elif ending.statement == "T11":
        yield from _with_bonus(config, mean, ref.log_p, ending, episode.rl)


def _distance(at: Place, statement: str, claim: str, value: float) -> Check:
    return at.equal(statement, claim, value, 0.0)


def _at_rest(
    config: EnumeratedConfiguration, at: Place, mean: PromptMeans, ref: Law, ending: Ending
) -> Check:
    recipe = recipe_of(config)
    assert recipe is not None
    gradient = bounds.expected_gradient(ending.log_p, ref, mean.reward, recipe)
    length = float(np.abs(gradient).sum(axis=1).mean())
    return at.equal("T1", "sum |E[gradient in the logits]| at p* = 0", length, 0.0, REWARD)


def _overpaid(mean: PromptMeans, checkpoint: Checkpoint) -> Iterator[Check]:
    d, p = mean.log_d, checkpoint.log_p
    at = Place(mean, checkpoint.place, [d, p])
    paid = mean.kl(d, p)
    claim = "KL(d||p) - E_q K_inf(d, J(p)) = E_d[z - 1 - log z] + E_p[1(d=0) b]"
    yield at.equal("S9", claim, paid - mean.price(d, p), mean.overpaid(p))
    claim = "KL(d||p) >= the least for the average reward of p"
    check = at.at_least(TRAINED, "S5", claim, paid, mean.average_price(p))
    yield check.attained_if(mean.one_rate(d))


def _forward(mean: PromptMeans, ref: Law, path: list[Checkpoint]) -> Iterator[Check]:
    best = bounds.forward_leash_optimum(ref, mean.reward, mean.beta)

    def objective(log_p: Law) -> float:
        laws = log_p, ref, mean.reward, mean.beta
        return float(bounds.forward_regularized_reward(*laws).mean())

    xp, beta = floats_of(ref), np.full((len(ref), 1), mean.beta)
    for checkpoint in path:
        p = checkpoint.log_p
        at = Place(mean, checkpoint.place, [ref, p, best])
        gap = float(np.asarray(forward_leash_gap(xp, p, best, ref, beta)).mean())
        claim = "O(p*) - O(p) = beta E_ref[z - 1 - log z]"
        yield at.equal("T2", claim, objective(best) - objective(p), gap, REWARD)


def _on_the_frontier(
    at: Place, statement: str, mean: PromptMeans, ref: Law, ending: Ending
) -> Iterator[Check]:
    """d := ref, of which p* is a frontier policy at one rate for all prompts."""
    own = replace(mean, log_d=ref)
    paid, least = own.kl(ref, ending.log_p), own.average_price(ending.log_p)
    tilt = own.tilt_with_reward(ref, own.j(ending.log_p))
    beyond = "in float64 the reward of p* is that of ref, or the best one"
    claim = "d := ref: KL(ref||p*) = the least for the average reward of p*"
    yield at.equal(statement, claim, paid, least).only_if(tilt is not None, beyond)
    dear = math.nan if tilt is None else own.kl(ref, tilt)
    claim = "d := ref: the tilt with the reward of p* pays as much, or more"
    check = at.at_least(OPTIMUM, statement, claim, dear, paid).attained_if(own.one_rate(ref))
    yield check.only_if(tilt is not None, beyond)


def _normalised(
    config: EnumeratedConfiguration, at: Place, mean: PromptMeans, ref: Law, ending: Ending
) -> Iterator[Check]:
    """T4's fixed point, from the success of p* and the factor h of its groups."""
    low = mean.reward.min(axis=1, keepdims=True)
    right = mean.reward > low
    success = np.exp(ending.log_p, where=right, out=np.zeros_like(ending.log_p)).sum(axis=1)
    h = bounds.group_advantage_factor(success, config.group_size or None)
    recipe = recipe_of(config)
    assert recipe is not None
    if recipe.holds == "reverse":
        tilts = bounds.gibbs_tilt(ref, right.astype(float), config.beta / h)
        yield _distance(at, "T4", "KL(p*||tilt at beta/h(c)) = 0", mean.kl(ending.log_p, tilts))
    else:
        start = np.exp(ref, where=right, out=np.zeros_like(ref)).sum(axis=1)
        pull, leash = h * success * (1 - success), config.beta * (success - start)
        claim = "h(c) c (1 - c) = beta (c - a)"
        yield at.equal("T4", claim, float(pull.mean()), float(leash.mean()), REWARD)


def _best_of_n(
    config: EnumeratedConfiguration, at: Place, mean: PromptMeans, ref: Law, ending: Ending
) -> Iterator[Check]:
    to_ref, from_ref = map(float, bounds.best_of_n_bounds(config.best_of))
    claim = "n - 1 - log n >= KL(ref||best of n)"
    alone = config.best_of == 1  # the best of one draw is ref, and all sides are 0
    check = at.at_least(OPTIMUM, "T7", claim, from_ref, mean.kl(ref, ending.log_p))
    yield check.attained_if(alone)
    claim = "log n - (n - 1)/n >= KL(best of n||ref)"
    check = at.at_least(OPTIMUM, "T7", claim, to_ref, mean.kl(ending.log_p, ref))
    yield check.attained_if(alone)


def _replayed(
    config: EnumeratedConfiguration, at: Place, mean: PromptMeans, kept: Law, ending: Ending
) -> Iterator[Check]:
    share, d = config.replay_share, mean.log_d
    gained = mean.j(ending.log_p) - mean.data_reward
    whole = share * (mean.j(kept) - mean.data_reward)
    yield at.equal("T8", "J(m) - J(d) = v (J(p) - J(d))", gained, whole, REWARD)
    most = float(bounds.replay_bound(bounds.kl_divergence(d, kept), share).mean())
    claim = "-log(1 - v + v e^-KL(d||p)) >= KL(d||m)"
    check = at.at_least(OPTIMUM, "T8", claim, most, mean.kl(d, ending.log_p))
    yield check.attained_if(bool((np.isfinite(d).sum(axis=1) == 1).all()))


def _with_bonus(
    config: EnumeratedConfiguration,
    mean: PromptMeans,
    ref: Law,
    ending: Ending,
    path: list[Checkpoint],
) -> Iterator[Check]:
    bonus = config.entropy_bonus

    def objective(log_p: Law) -> float:
        return mean.jb(log_p, ref) + bonus * mean.entropy(log_p)

    for checkpoint in path:
        p = checkpoint.log_p
        at = Place(mean, checkpoint.place, [ref, p, ending.log_p])
        allowed = at.allowed[REWARD] * (1 + bonus / mean.beta)
        lost = objective(ending.log_p) - objective(p)
        gap = (mean.beta + bonus) * mean.kl(p, ending.log_p)
        claim = "J_b + alpha H at p* exceeds that at p by (alpha + beta) KL(p||p*)"
        sides = lost, gap, allowed, REWARD
        yield Check("T11", claim, checkpoint.place, IDENTITY, "==", *sides)
