"""Where trainers end that do not end at the tilt: a forward leash, and advantages normalised in groups.

**Forward leash** (k3 in the loss, T2). The end is S5's frontier policy at the rate s = 1/beta. Let h(s) be the least of
KL(ref||p) - s E_p r over policies, r counted from the highest reward. It is concave in s, with slope -J, J the reward
at the end: so its chords to neighbours are limits for J, and h + s J for the SFT loss. Of h a line that is fitted on
other responses is too low in expectation (``floors.lines``), and the least over the sampled law too high.

The end rests on the highest reward m that a response to the prompt has, however improbable that response is:

    p = w ref, w = beta/(mu - r), J = mu - beta, loss = -E_ref log w, with the least mu >= m for which E_ref w <= 1.

J and loss rise with mu, hence with m: upper ends take the highest reward of the bounds for m. Both fall where m is
lowered to some c, and every reward above c with it: to mu_c <= mu, since w rises with r, and to a loss that is not
larger, since E_ref log(w/w_c) <= E_ref (w - w_c)/W <= 0 with W the largest w_c, which is w_c wherever w > w_c. So for
lower ends c is the highest reward of half of a prompt's responses, which ref gives, and the other half is judged.
Plug-in values are those of the sampled law, whose highest reward is m.

**Advantages normalised in groups** (T4), rewards of two levels. The end is that of the same leash without normalising
at beta/h, and h lies between limits that do not depend on the policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nondecoupling import bounds
from nondecoupling.bounds.arrays import BoolArray
from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import Array, PerWorld
from nondecoupling.forecast import floors
from nondecoupling.forecast.ends import Ends
from nondecoupling.forecast.laws import Places, Responses
from nondecoupling.forecast.tilts import Tilts
from nondecoupling.recipes import Recipe

# From a rate to those at the ends of its chords: three places of the grid of ``trainers``, which so share their lines.
STEP = 10.0 ** (3 / 16)

HALVES = 2  # one shows which rewards there are, the other is judged; then the other way round

# Values [betas, prompts], and what ``_low_end`` or ``_high_end`` is told that they lie between.
Limited = tuple[Array, PerWorld, PerWorld]


@dataclass(frozen=True)
class ForwardEnds(Ends):
    """beta ref/(mu - r): the policy of highest E_p r - beta KL(ref||p)."""

    def how(self, number: str) -> str:
        if number == "expert_loss_change":
            return "plug-in; the samples give no limits for it with this leash"
        of = f"{self.samples.prompts} prompts"
        return f"betting, {of}, chords of the frontier, cross-fitted{self.note}"

    @property
    def note(self) -> str:
        return _note_of(float(self._hidden.max()), self.samples.reward_bounds[1])

    def rewards(self, delta: float) -> Interval:
        low, high = self.samples.reward_bounds
        return self._enclosed(
            high + self._low_end(*self._from_below[0], delta),
            high + self._high_end(*self._from_above[0], delta),
            self.plug_in_rewards(),
            delta,
            (low, high),
        )

    def own_loss_changes(self, delta: float) -> Interval:
        return self._enclosed(
            self._low_end(*self._from_below[1], delta),
            self._high_end(*self._from_above[1], delta),
            self.plug_in_losses(),
            delta,
            (0.0, math.inf),
        )

    def expert_loss_changes(self, delta: float) -> Interval | None:
        """E_expert log(t + s (best - r)), with the sampled offset t of each prompt, best of all its responses."""
        experts = self.samples.expert_rewards
        if experts is None:
            return None
        drawn = self.samples.drawn
        best = np.maximum(drawn.highest(), experts.max(axis=1))
        sampled, one_more = (
            _least(drawn.below(best), count, 1 / self.betas)[1] for count in (0, 1)
        )
        # Where the experts' best response takes mass that no sampled one has, it is one more of them.
        offsets = np.where(sampled > 0, sampled, one_more)
        each = [
            np.log(offset[:, None] + (best[:, None] - experts) / beta).mean(axis=1)
            for offset, beta in zip(offsets, self.betas, strict=True)
        ]
        value = drawn.average(np.stack(each))
        open_end = np.full(value.shape, math.inf)
        return Interval(-open_end, open_end, value, delta, self.samples.prompts, "plug-in")

    def kl(self, delta: float) -> None:
        return None

    def soft_values(self, delta: float) -> None:
        return None

    def plug_in_rewards(self) -> Array:
        drawn = self.samples.drawn
        return drawn.average(drawn.highest()) - self.betas * drawn.average(1 - self._sampled[1])

    def plug_in_losses(self) -> Array:
        line, offset = self._sampled
        return np.maximum(self.samples.drawn.average(line - (1 - offset)), 0.0)

    @cached_property
    def _sampled(self) -> tuple[Array, Array]:
        """h of the sampled law and its offset, rewards counted from the highest of each prompt's responses."""
        drawn = self.samples.drawn
        return _least(drawn.below(drawn.highest()), 0.0, 1 / self.betas)

    @property
    def _hidden(self) -> Array:
        """[betas], the share of prompts whose end has mass on the highest reward though no response has it."""
        drawn = self.samples.drawn
        _, offset = _least(self._from_best, 0.0, 1 / self.betas)
        return drawn.average(np.where(offset > 0, 0.0, 1.0))

    @property
    def _from_best(self) -> Responses:
        drawn = self.samples.drawn
        return drawn.below(np.full(len(drawn.rewards), self.samples.reward_bounds[1]))

    @cached_property
    def _rates(self) -> tuple[Array, Places]:
        """All rates there are, and the places [3, betas] of the rates times 1/STEP, 1 and STEP among them."""
        logs = -np.log(self.betas) + math.log(STEP) * np.array([[-1.0], [0.0], [1.0]])
        every, place = np.unique(np.round(logs, 9), return_inverse=True)
        return np.exp(every), place.reshape(logs.shape)

    @property
    def _reach(self) -> Array:
        return self.samples.spread / self.betas[:, None]

    @cached_property
    def _least_lines(self) -> Array:
        """What no line is below at all ``_rates``, [rates, 1]."""
        limits = [floors.limits_of_lines(self.samples, rate) for rate in self._rates[0]]
        return np.array(limits)[:, :1]

    @cached_property
    def _from_above(self) -> tuple[Limited, Limited]:
        """J - best and the loss, too high in expectation, where every prompt may have the highest reward."""
        every, (_, here, stronger) = self._rates
        under = floors.lines(self.samples.drawn, self.samples.reward_bounds[1], every)
        over, _ = _least(self._from_best, 0.0, every)
        gained = (over[here] - under[stronger]) / (STEP - 1)  # in nats
        nats = _most_nats(self._reach)
        most = (nats - self._least_lines[stronger]) / (STEP - 1)
        beta = self.betas[:, None]
        rewards = beta * gained, -self.samples.spread, beta * most
        return rewards, (over[here] + gained, 0.0, nats + most)

    @cached_property
    def _from_below(self) -> tuple[Limited, Limited]:
        """J - best and the loss, too low in expectation, where no reward is above one that was seen."""
        drawn, best, beta = self.samples.drawn, self.samples.reward_bounds[1], self.betas[:, None]
        every, (weaker, here, _) = self._rates
        chord = 1 - 1 / STEP
        rewards = losses = np.zeros((len(self.betas), len(drawn.rewards)))
        for own, others, size in floors.folds(drawn, HALVES):
            seen = others.highest()
            own, others = own.below(seen), others.below(seen)
            under = floors.lines_fitted_to(others, own, 0.0, every)
            over, _ = _least(own, 0.0, every)
            gained = (under[weaker] - over[here]) / chord  # in nats
            rewards = rewards + (seen - best + beta * gained) * size
            losses = losses + (under[here] + gained) * size
        rewards, losses = rewards / drawn.counts, losses / drawn.counts
        # With x the seen reward less the lowest, over beta, gained is at least (line - _most_nats(x))/chord. That and x
        # together are convex in x, and least where the slope 1 - 1/(x chord) is zero.
        line, reach = self._least_lines, self._reach
        x = np.minimum(reach, 1 / chord)
        least = x - reach + (line[weaker] - _most_nats(x)) / chord
        least_loss = line[here] + (line[weaker] - _most_nats(reach)) / chord
        return (rewards, beta * least, 0.0), (losses, least_loss, _most_nats(reach))


def _least(responses: Responses, one_more: float, rates: Array) -> tuple[Array, Array]:
    """(h of laws with rewards up to 0 and ``one_more`` response that has it, their offsets), [rates, prompts] each."""
    laws = responses.distinct_with_best(0.0, one_more)
    found = [bounds.frontier_policy(*laws.law, rate) for rate in rates]
    line, offset = (
        np.stack([getattr(one, name)[laws.place] for one in found]) for name in ("line", "offset")
    )
    return line, offset


def _note_of(hidden: float, best: float) -> str:
    """``hidden``: the share of prompts whose end a response of reward ``best``, which none of theirs has, changes."""
    if not hidden:
        return ""
    return (
        f"; at {hidden:.1%} of the prompts an unseen response of reward {best:g} would change the end, and only "
        "the upper end allows for one"
    )


def _most_nats(reach: Array) -> Array:
    """What neither h nor h + s J <= h exceeds where the rate times the range of the reward is ``reach``."""
    return np.where(reach < 1, reach, 1 + np.log(np.maximum(reach, 1)))


@dataclass(frozen=True)
class NormalisedEnds(Ends):
    """Advantages (r - mean)/(sd + eps) of groups, rewards at either end of their bounds only."""

    recipe: Recipe

    def how(self, number: str) -> str:
        if number == "expert_loss_change":
            return "plug-in; the samples give no limits for it with this leash"
        low, high = self.factors
        inner = self._weakest.how(number).removesuffix(self._weakest.note)
        return f"leashes at beta/{low:.3g} and beta/{high:.3g} (T4), each {inner}{self.note}"

    @property
    def note(self) -> str:
        """h of a rare success is near the higher factor."""
        if self._strongest is not None:
            return self._strongest.note
        drawn, best = self.samples.drawn, self.samples.reward_bounds[1]
        return _note_of(float(drawn.average(np.where(drawn.highest() < best, 1.0, 0.0))), best)

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
            # Where only experts are right one more response is, or their answer would have had no probability.
            one_more = np.maximum(self._start, 1 / (self.samples.drawn.counts + 1))
            start = np.where(right.any(axis=1), one_more, self._start)
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
        """Success of the sampled law, [prompts]."""
        low, _ = self.samples.reward_bounds
        return np.asarray((self.samples.drawn.mean() - low) / self.samples.spread)

    @cached_property
    def _ends(self) -> list[tuple[Array, BoolArray]]:
        return self._ended(self._start)

    def _ended(self, start: Array) -> list[tuple[Array, BoolArray]]:
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


def _moved(start: Array, ends: list[tuple[Array, BoolArray]]) -> list[tuple[Array, Array]]:
    """log p/ref of right and of wrong responses, [prompts, 1] each; a level that no response has stays."""
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for log_p, _ in ends:
            up = np.where(start > 0, log_p[:, 1] - np.log(start), 0.0)
            down = np.where(start < 1, log_p[:, 0] - np.log1p(-start), 0.0)
            found.append((up[:, None], down[:, None]))
    return found
