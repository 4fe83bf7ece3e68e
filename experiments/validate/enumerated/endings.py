"""Where the theory says that a stage ends: the policy of a tabular trainer at the end of its flow, per prompt.

    RL             the tilt of ref (S1), or where the recipe's expected gradient vanishes (T1, T2, T4, T11)
    joint          J1's optimum
    alternate      the frontier policy of the data at the rate RL steps : SFT steps (T6, in the limit of short cycles)
    replay         (1 - v) d + v p, p the result of RL (T8)
    best-of-n      the law of the best of n draws from ref (T7)
    weighted-sft   ref times beta/(mu - r), which is on ref's frontier, or times e^(r/beta), the tilt (T9)

A network shares parameters between prompts and is trained for a finite time: how far it ends from here is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nondecoupling import bounds
from nondecoupling.recipes import Advantage, Leash, Recipe
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.means import PromptMeans
from validate.errors import InputError
from validate.orders import Stage

__all__ = ["Ending", "ending_of", "must_end", "recipe_of"]

Law = NDArray[np.floating[Any]]
# Above the critical beta of every ref that a float can hold (T4).
BEYOND_CRITICAL = 1e6


@dataclass(frozen=True)
class Ending:
    """log p* of a stage, [prompts, responses], what it is called, and the statement that it is by."""

    log_p: Law
    name: str
    statement: str


def recipe_of(config: EnumeratedConfiguration) -> Recipe | None:
    """RL's recipe; None where RL maximises J - beta KL(p||ref) as it is, which is that of k1 in the reward."""
    recipe = Recipe(
        cast(Advantage, config.advantage),
        cast(Leash, config.recipe),
        config.beta,
        group_size=config.group_size or None,
        entropy_bonus=config.entropy_bonus,
    )
    plain = Recipe("leave-one-out", "k1-in-reward", config.beta, group_size=recipe.group_size)
    return None if recipe == plain else recipe


def must_end(config: EnumeratedConfiguration, reward: Law, log_ref: Law | None = None) -> None:
    """
    Raises:
        InputError: the recipe has no stationary policy, or none that is known, from ``log_ref``; without one,
            whatever ref may be.
    """
    recipe = recipe_of(config)
    if recipe is None:
        return
    if log_ref is None:
        log_ref = np.full(reward.shape, -math.log(reward.shape[1]))
        recipe = replace(recipe, beta=BEYOND_CRITICAL)
    why = bounds.stationary_policy(log_ref, reward, recipe).why
    if why:
        bonus = f" --entropy-bonus {config.entropy_bonus:g}" if config.entropy_bonus else ""
        raise InputError(
            f"--recipe {config.recipe} --advantage {config.advantage}{bonus} has no end that a run could be held "
            f"against: {why}; choose another --recipe or --advantage, a --reward of two levels, or a larger --beta"
        )


def ending_of(
    stage: Stage, config: EnumeratedConfiguration, mean: PromptMeans, laws: Mapping[str, Law]
) -> Ending:
    """``laws`` holds log p at the end of the stages before; ``mean`` the data law and the reward.

    Raises:
        InputError: the stage is RL by a recipe without an end.
    """
    assert stage.ref is not None, "before RL nothing but the data law is predicted"
    ref, reward = laws[stage.ref], mean.reward
    if stage.objective == "rl":
        return _of_recipe(config, mean, ref)
    if stage.objective == "joint":
        return Ending(mean.joint_optimum(ref), "joint optimum", "J1")
    if stage.objective == "alternate":
        fine = bounds.forward_leash_optimum(mean.log_d, reward, config.alternation_beta)
        return Ending(fine, "limit of short cycles", "T6")
    if stage.name == "replay":
        share = config.replay_share
        mixed = np.logaddexp(math.log1p(-share) + mean.log_d, math.log(share) + laws["rl"])
        return Ending(mixed, f"mixture, {share:g} of it RL's", "T8")
    if stage.name == "best-of-n":
        best = bounds.best_of_n_policy(ref, reward, config.best_of)
        return Ending(best, f"best of {config.best_of}", "T7")
    if config.weights == "exponential":
        return Ending(mean.tilt(ref), "ref with exponential weights", "T9")
    weighted = ref + np.log(bounds.frontier_weights(ref, reward, config.beta))
    return Ending(weighted, "ref with frontier weights", "T9")


def _of_recipe(config: EnumeratedConfiguration, mean: PromptMeans, ref: Law) -> Ending:
    recipe = recipe_of(config)
    if recipe is None:
        return Ending(mean.tilt(ref), "RL optimum", "S1")
    must_end(config, mean.reward, ref)
    log_p = bounds.stationary_policy(ref, mean.reward, recipe).log_p
    if recipe.advantage == "group-normalised":
        return Ending(log_p, "stationary policy", "T4")
    if recipe.entropy_bonus:
        return Ending(log_p, "optimum with the bonus", "T11")
    if recipe.holds == "forward":
        return Ending(log_p, "optimum of the forward leash", "T2")
    return Ending(log_p, "RL optimum", "T1")
