"""What a forecast must know of a trainer: where it ends, in which unit its beta is, what the samples do not support."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.ends import Ends
from nondecoupling.forecast.leashes import ForwardEnds, NormalisedEnds
from nondecoupling.forecast.samples import Samples
from nondecoupling.forecast.support import Unsupported, UnsupportedRecipe, unsupported
from nondecoupling.forecast.tilts import Tilts
from nondecoupling.recipes import Recipe

LEAST_BETA = 1e-6  # of the trainer's unit
# Of the trainer's unit; each beta is 10^(1/16), or 15 %, below the one before it.
GRID = 10.0 ** (np.arange(16, -33, -1) / 16)
# Weaker RL in the same steps, up to where rewards are those of the start policy but for rounding.
WEAKER = 10.0 ** (np.arange(17, 145) / 16)
NO_END: dict[str, str] = {
    "nothing": (
        "nothing holds the policy: its reward rises to the highest, and the SFT loss without bound (T1, T2). The price "
        "of a reward, at_reward(...).price, holds for it too"
    ),
    "no maximum": "with k3 in the reward the objective has no upper bound (T2); put it in the loss",
    "no closed form": "where k2 in the reward ends has no closed form (T2); put it in the loss",
}


@dataclass(frozen=True)
class ForecastTrainer:
    """KL-regularised RL to its optimum or, with a ``recipe``, a trainer: its leash, advantages and verifier noise.

    The beta of the recipe itself plays no part here; betas are given in the recipe's own unit.
    """

    samples: Samples
    recipe: Recipe | None

    @cached_property
    def refusal(self) -> UnsupportedRecipe | None:
        """Why no beta of this trainer can be forecast."""
        recipe = self.recipe
        if recipe is None:
            return None
        reason = NO_END.get(recipe.holds)
        low, high = self.samples.reward_bounds
        rewards = self.samples.ref_rewards[self.samples.mask]
        binary = bool(np.isin(rewards, (low, high)).all())
        if reason is None and recipe.entropy_bonus:
            reason = "an entropy bonus moves probability by log ref(y|x) itself, for which there are no limits (T11)"
        elif reason is None and self._normalised and recipe.leash.endswith("in-reward"):
            reason = "the penalty is part of the reward that is normalised, where T4 does not speak"
        elif reason is None and not binary and (self._normalised or recipe.told < 1):
            what = "advantages normalised in groups" if self._normalised else "a noisy verifier"
            reason = f"{what}: the theory is about two levels of reward (T4, T11), here other than {low:g} and {high:g}"
        return None if reason is None else UnsupportedRecipe(None, reason)

    @property
    def _normalised(self) -> bool:
        return self.recipe is not None and self.recipe.advantage == "group-normalised"

    @property
    def unit(self) -> float:
        """The beta at which a trainer does what exact RL does at the range of the reward, about."""
        if self.recipe is None or self.refusal:
            return self.samples.spread
        return 1.0 if self._normalised else self.samples.spread / self._met

    @property
    def is_exact(self) -> bool:
        """Whether this trainer does at each beta what exact RL does at the same."""
        if self.recipe is None:
            return True
        held = self.recipe.holds == "reverse" and not self._normalised and not self.refusal
        return held and self._met == 1.0

    @property
    def reach(self) -> float | None:
        """The R of Hoeffding's bound R^2/(8 beta^2) on the SFT loss change (S3), at this trainer's betas.

        None where training ends at no tilt, or at one of an unknown beta.
        """
        recipe = self.recipe
        if recipe is None:
            return self.unit
        if recipe.holds != "reverse" or self.refusal:
            return None
        if not self._normalised:
            return self.unit
        _, most = NormalisedEnds(self.samples, self.grid, recipe).factors
        return most if math.isfinite(most) else None

    @property
    def least_beta(self) -> float:
        """Below it the digits of r/beta do not suffice."""
        return LEAST_BETA * self.unit

    @property
    def _met(self) -> float:
        """The beta that the reward meets, for each unit of the recipe's own."""
        assert self.recipe is not None
        return replace(self.recipe, beta=1.0).met_beta

    def ends(self, betas: Array) -> Ends:
        """Where training ends; only for a trainer that is not refused."""
        recipe = self.recipe
        if recipe is None:
            return Tilts(self.samples, betas)
        if self._normalised:
            return NormalisedEnds(self.samples, betas, recipe)
        family = ForwardEnds if recipe.holds == "forward" else Tilts
        return family(self.samples, betas * self._met)

    @property
    def grid(self) -> Array:
        """Betas from weak RL to strong, fixed by the reward bounds before any reward is seen."""
        return GRID * self.unit

    @property
    def weaker(self) -> Array:
        """Betas above the grid, rising."""
        return WEAKER * self.unit

    @cached_property
    def on_the_grid(self) -> Ends:
        return self.ends(self.grid)

    @cached_property
    def supported(self) -> int:
        """How many betas of the grid the samples support, from the largest on."""
        answers = (self.unsupported(float(beta)) for beta in self.grid)
        return next((i for i, answer in enumerate(answers) if answer), len(self.grid))

    def unsupported(self, beta: float) -> Unsupported | None:
        """Why the samples do not say where training at this beta ends; None where they do."""
        recipe = self.recipe
        if recipe is None:
            return unsupported(self.samples, beta)
        if self.refusal:
            return self.refusal
        if self._normalised:
            ends = NormalisedEnds(self.samples, np.array([beta]), recipe)
            gone = float(ends.gone()[0])
            if gone:
                reason = (
                    f"at {gone:.0%} of the prompts no policy is stationary: success tends to one there, and the SFT "
                    "loss grows without bound (T4, bounds.critical_beta)"
                )
                return UnsupportedRecipe(beta, reason)

        def end(log_d: Array, reward: Array) -> Array:
            found = bounds.stationary_policy(log_d, reward, replace(recipe, beta=beta))
            # A response that only few responses would hide may be beyond the critical beta: then it takes all.
            gone = ~np.asarray(found.stationary)[:, None]
            best = np.where(reward == reward.max(axis=1, keepdims=True), log_d, -np.inf)
            return np.where(gone, best - np.logaddexp.reduce(best, axis=1)[:, None], found.log_p)

        return unsupported(self.samples, beta, end)
