"""Where trainers end that do not end at the tilt: a forward leash, and advantages normalised in groups.

**Forward leash** (k3 in the loss, T2). The end is S5's frontier policy at the rate s = 1/beta. Let h(s) be the least of
KL(ref||p) - s E_p r over policies, r counted from the highest reward. It is concave in s, with slope -J, J the reward
at the end: so its chords to neighbours are limits for J, and h + s J for the SFT loss. Of h a line that is fitted on
other responses is too low in expectation (``floors.lines``), and the least over the sampled law too high.

**Advantages normalised in groups** (T4), rewards of two levels. The end is that of the same leash without normalising
at beta/h, and h lies between limits that do not depend on the policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast import floors
from nondecoupling.forecast.ends import Ends
from nondecoupling.forecast.laws import Places
from nondecoupling.forecast.tilts import Tilts
from nondecoupling.recipes import Recipe

# From a rate to those at the ends of its chords: three places of the grid of ``trainers``, which so share their lines.
STEP = 10.0 ** (3 / 16)


@dataclass(frozen=True)
class ForwardEnds(Ends):
    """beta ref/(mu - r): the policy of highest E_p r - beta KL(ref||p)."""

    def how(self, number: str) -> str:
        if number == "expert_loss_change":
            return "plug-in; the samples give no limits for it with this leash"
        return f"betting, {self.samples.prompts} prompts, chords of the frontier, cross-fitted"

    def rewards(self, delta: float) -> Interval:
        below, above, least, most = self._chords
        low, high = self.samples.reward_bounds
        return self._enclosed(
            high + self._low_end(below, least, most, delta),
            high + self._high_end(above, least, most, delta),
            self.plug_in_rewards(),
            delta,
            (low, high),
        )

    def own_loss_changes(self, delta: float) -> Interval:
        rate = 1 / self.betas[:, None]
        below, above, least, most = self._chords
        under, over, lowest, highest = self._lines(1.0)
        least, most = lowest + rate * least, highest + rate * most
        return self._enclosed(
            self._low_end(under + rate * below, least, most, delta),
            self._high_end(over + rate * above, least, most, delta),
            self.plug_in_losses(),
            delta,
            (0.0, math.inf),
        )

    def expert_loss_changes(self, delta: float) -> Interval | None:
        """E_expert log(t + s (best - r)), with the sampled offset t of each prompt."""
        experts = self.samples.expert_rewards
        if experts is None:
            return None
        missing = self.samples.reward_bounds[1] - experts
        # Where the best response takes mass that no sampled one has, it is one more of them.
        offsets = np.where(
            self._sampled[1] > 0, self._sampled[1], self._least(1 / self.betas, 1.0)[1]
        )
        each = [
            np.log(offset[:, None] + missing / beta).mean(axis=1)
            for offset, beta in zip(offsets, self.betas, strict=True)
        ]
        value = self.samples.drawn.average(np.stack(each))
        open_end = np.full(value.shape, math.inf)
        return Interval(-open_end, open_end, value, delta, self.samples.prompts, "plug-in")

    def kl(self, delta: float) -> None:
        return None

    def soft_values(self, delta: float) -> None:
        return None

    def plug_in_rewards(self) -> Array:
        """J = best - beta (1 - t) of the law where any response may have the highest reward."""
        return self.samples.reward_bounds[1] - self._missing

    def plug_in_losses(self) -> Array:
        lines = self.samples.drawn.average(self._sampled[0])
        return np.maximum(lines - self._missing / self.betas, 0.0)

    @property
    def _missing(self) -> Array:
        """best - J, plug-in."""
        return self.samples.drawn.average(self.betas[:, None] * (1 - self._sampled[1]))

    @cached_property
    def _sampled(self) -> tuple[Array, Array]:
        """(least over the sampled law of KL(ref||p) - s E_p r, its offset), [betas, prompts]."""
        return self._least(1 / self.betas, 0.0)

    def _least(self, rates: Array, one_more: float) -> tuple[Array, Array]:
        """With a response of the highest reward that counts as ``one_more`` of the sampled ones."""
        best = self.samples.reward_bounds[1]
        laws = self.samples.drawn.distinct_with_best(best, one_more)
        found = [bounds.frontier_policy(*laws.below(best), rate) for rate in rates]
        line, offset = (
            np.stack([getattr(one, name)[laws.place] for one in found])
            for name in ("line", "offset")
        )
        return line, offset

    @cached_property
    def _every_line(self) -> tuple[Places, tuple[Array, Array, Array, Array]]:
        """(places [3, betas] of weaker, own and stronger rates among all, h at all of them; see ``_lines``)."""
        logs = -np.log(self.betas) + math.log(STEP) * np.array([[-1.0], [0.0], [1.0]])
        rates, place = np.unique(np.round(logs, 9), return_inverse=True)
        rates, best = np.exp(rates), self.samples.reward_bounds[1]
        under = floors.lines(self.samples.drawn, best, rates)
        limits = np.array([floors.limits_of_lines(self.samples, rate) for rate in rates])
        found = under, self._least(rates, 0.0)[0], limits[:, :1], limits[:, 1:]
        return place.reshape(logs.shape), found

    def _lines(self, factor: float) -> tuple[Array, Array, Array, Array]:
        """At the rates times 1/STEP, 1 or STEP: h from below and from above, and what they lie between.

        [betas, prompts] twice, and [betas, 1] twice.
        """
        places, (under, over, lowest, highest) = self._every_line
        at = places[1 + round(math.log(factor, STEP))]
        return under[at], over[at], lowest[at], highest[at]

    @cached_property
    def _chords(self) -> tuple[Array, Array, Array, Array]:
        """J from below and from above, and what they lie between."""
        rates = 1 / self.betas
        weaker, here, stronger = (self._lines(factor) for factor in (1 / STEP, 1.0, STEP))
        back, ahead = (rates * (1 - 1 / STEP))[:, None], (rates * (STEP - 1))[:, None]
        below, above = (weaker[0] - here[1]) / back, (here[1] - stronger[0]) / ahead
        least = np.minimum((weaker[2] - here[3]) / back, (here[2] - stronger[3]) / ahead)
        most = np.maximum((weaker[3] - here[2]) / back, (here[3] - stronger[2]) / ahead)
        return below, above, least, most


@dataclass(frozen=True)
class NormalisedEnds(Ends):
    """Advantages (r - mean)/(sd + eps) of groups, rewards at either end of their bounds only."""

    recipe: Recipe

    def how(self, number: str) -> str:
        if number == "expert_loss_change":
            return "plug-in; the samples give no limits for it with this leash"
        low, high = self.factors
        inner = self._weakest.how(number)
        return f"leashes at beta/{low:.3g} and beta/{high:.3g} (T4), each {inner}"

    @property
    def factors(self) -> tuple[float, float]:
        """What h_G lies between at every success, per unit of reward.

        With the population's sd and eps = 0 these are 2(G-1)/G and sqrt(G-1) (T4); the sd of a group that is not of one
        reward is sqrt(G-1)/G at least, which says how much eps can take away.
        """
        size, eps = self.recipe.group_size, self.recipe.eps / self.samples.spread
        told = self.recipe.told
        if size is None:
            return told / (0.5 + eps), told / eps if eps else math.inf
        sample = math.sqrt((size - 1) / size) if self.recipe.sd == "sample" else 1.0
        least_sd = math.sqrt(size - 1) / size / sample
        kept = least_sd / (least_sd + eps)
        return told * sample * 2 * (size - 1) / size * kept, told * sample * math.sqrt(size - 1)

    def rewards(self, delta: float) -> Interval:
        return self._between(
            "rewards", delta, self.plug_in_rewards(), self.samples.reward_bounds[1]
        )

    def own_loss_changes(self, delta: float) -> Interval:
        return self._between("own_loss_changes", delta, self.plug_in_losses(), math.inf)

    def expert_loss_changes(self, delta: float) -> Interval | None:
        experts = self.samples.expert_rewards
        if experts is None:
            return None
        right = experts == self.samples.reward_bounds[1]
        moved = self._moved
        if self.recipe.holds == "forward":
            # Where no response is right one more is, or a right answer of the experts would have had no probability.
            start = np.maximum(self._start, 1 / (self.samples.drawn.counts + 1))
            moved = _moved(start, self._ended(start))
        change = np.stack([np.where(right, up, down) for up, down in moved])
        value = -self.samples.drawn.average(change.mean(axis=-1))
        open_end = np.full(value.shape, math.inf)
        return Interval(-open_end, open_end, value, delta, self.samples.prompts, "plug-in")

    def kl(self, delta: float) -> None:
        return None

    def soft_values(self, delta: float) -> None:
        return None

    def plug_in_rewards(self) -> Array:
        low, high = self.samples.reward_bounds
        return low + (high - low) * self.samples.drawn.average(self._successes)

    def plug_in_losses(self) -> Array:
        start = self._start[:, None]
        each = [-(start * up + (1 - start) * down)[:, 0] for up, down in self._moved]
        return np.maximum(self.samples.drawn.average(np.stack(each)), 0.0)

    def gone(self) -> Array:
        """[betas], the share of prompts at which no policy is stationary: success tends to one there (T4)."""
        return self.samples.drawn.average(
            np.stack([np.where(end[1], 0.0, 1.0) for end in self._ends])
        )

    @cached_property
    def _start(self) -> Array:
        """Of the law where any response may be right: a forward leash lets it rise from no mass at all."""
        low, _ = self.samples.reward_bounds
        start = (self.samples.drawn.mean() - low) / self.samples.spread
        return np.maximum(start, np.finfo(float).tiny) if self.recipe.holds == "forward" else start

    @cached_property
    def _ends(self) -> list[tuple[Array, Array]]:
        return self._ended(self._start)

    def _ended(self, start: Array) -> list[tuple[Array, Array]]:
        """(log of the chances of wrong and right [prompts, 2], whether stationary), for each beta."""
        starts, place = np.unique(start, return_inverse=True)
        with np.errstate(divide="ignore"):
            log_ref = np.log(np.stack([1 - starts, starts], axis=1))
        reward = np.tile(self.samples.reward_bounds, (len(starts), 1))
        found = []
        for beta in self.betas:
            recipe = replace(self.recipe, beta=float(beta))
            end = bounds.stationary_policy(log_ref, reward, recipe)
            there = np.asarray(end.stationary)
            log_p = np.where(there[:, None], end.log_p, [-np.inf, 0.0])
            found.append((log_p[place], there[place]))
        return found

    @property
    def _successes(self) -> Array:
        return np.stack([np.exp(log_p[:, 1]) for log_p, _ in self._ends])

    @property
    def _moved(self) -> list[tuple[Array, Array]]:
        return _moved(self._start, self._ends)

    def _at(self, factor: float) -> Ends:
        """The ends of the same leash without normalising."""
        betas = self.betas * self.samples.spread / factor
        family = ForwardEnds if self.recipe.holds == "forward" else Tilts
        return family(self.samples, betas)

    @cached_property
    def _weakest(self) -> Ends:
        return self._at(self.factors[0])

    @cached_property
    def _strongest(self) -> Ends | None:
        return self._at(self.factors[1]) if math.isfinite(self.factors[1]) else None

    def _between(self, number: str, delta: float, estimate: Array, highest: float) -> Interval:
        """The reward and the SFT loss rise with the factor."""
        low = getattr(self._weakest, number)(delta).low
        high = np.full(low.shape, highest)
        if self._strongest is not None:
            high = getattr(self._strongest, number)(delta).high
        return Interval(low, high, estimate, delta, self.samples.prompts, "betting")


def _moved(start: Array, ends: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """log p/ref of right and of wrong responses, [prompts, 1] each; a level that no response has stays."""
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for log_p, _ in ends:
            up = np.where(start > 0, log_p[:, 1] - np.log(start), 0.0)
            down = np.where(start < 1, log_p[:, 0] - np.log1p(-start), 0.0)
            found.append((up[:, None], down[:, None]))
    return found
