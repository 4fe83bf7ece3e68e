"""From rewards and log-probabilities of a run to readings and alarms, with arrays only."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.bounds import coupling_from_run
from nondecoupling.collected import CollectedSamples
from nondecoupling.estimate.arguments import (
    Array,
    finite_array,
    nonnegative_number,
    one_of,
    onto_bounds,
    positive_number,
    probability,
    require_within,
    shown,
    whole_number,
)
from nondecoupling.forecast import Estimate, Forecast, Samples
from nondecoupling.monitor.limits import average_interval, rise_lower_limit, share_of
from nondecoupling.monitor.prices import Bounded, PriceCurves
from nondecoupling.monitor.readings import Reading
from nondecoupling.recipes import Recipe

if TYPE_CHECKING:
    from transformers import TrainerCallback

__all__ = ["CouplingMonitor"]

ACTIONS = ("log", "stop")
# Above it a number is no log-probability, whatever the rounding of a sum over tokens.
MOST_LOG_P = 1e-3
logger = logging.getLogger(__name__)


class CouplingMonitor:
    """Watches what a run of RL pays in SFT loss for its reward, and whether the reward could be had for less.

    ``source``: the file of ``lm.collect``, or its ``CollectedSamples``; with ``forecast.Samples`` or a ``Forecast``
    prices are known but no SFT loss is measured in a training, which says so, and refuses limits. In a training, a
    window of ``every`` generations gives one reading, the last one also a shorter window, and ``probe`` collected
    responses are scored in it. ``loss_budget`` (nats per response) and
    ``max_overpayment`` (a ratio) raise an alarm once they are crossed for certain, by limits that hold at every
    look: a false one of either kind is ever raised with probability at most ``delta``. ``on_alarm="stop"`` ends the
    training after the step.

    With a ``recipe`` (``nondecoupling.recipes``), or from a ``Forecast`` that has one, readings and page also have what
    that trainer pays for the reward, and at which of its betas (T1-T4, T11); ``prices.refusal`` says why it has no such
    path, where it has none. Alarms are held against exact RL, whatever the recipe.

    ``update`` is for runs of any framework; ``wrap`` and ``callback`` for TRL and other trainers of transformers.

    Assumes that prompts of rollouts and of the samples are draws from one law, that responses of both are drawn at
    temperature 1 without top-k or top-p, up to one length. Where the run trains on the very prompts of the samples, the
    rise is about these prompts.

    Errors: another kind of source or recipe, a recipe beside a Forecast of another one, samples with weights, numbers
    that are not positive, delta outside (0, 1), an unknown action.
    Source: S5, S9, S10.

    >>> rng = np.random.default_rng(0)
    >>> chances = rng.uniform(0.2, 0.7, size=(400, 1))
    >>> samples = Samples(rng.random((400, 16)) < chances, reward_bounds=(0, 1))
    >>> monitor = CouplingMonitor(samples, loss_budget=0.3)
    >>> log_ref = np.full(2000, -5.0)
    >>> reading = monitor.update(100, log_p=log_ref - 1.2, rewards=[1.0, 0.0] * 200, log_ref=log_ref)
    >>> print(reading.price_tilt, reading.overpayment_ratio)
    0.00... ...
    >>> reading.alarms
    ('ALARM: the SFT loss has risen by more than 0.3 nats per response (at least 0.4...)',)
    """

    def __init__(
        self,
        source: str | Path | CollectedSamples | Samples | Forecast,
        *,
        recipe: Recipe | None = None,
        every: int = 20,
        loss_budget: float | None = None,
        max_overpayment: float | None = None,
        on_alarm: str = "log",
        delta: float = 0.05,
        probe: int = 256,
    ) -> None:
        if isinstance(source, (str, Path)):
            source = CollectedSamples.read(source)
        self.collected = source if isinstance(source, CollectedSamples) else None
        if isinstance(source, CollectedSamples):
            self.samples = source.samples()
        elif isinstance(source, (Samples, Forecast)):
            self.samples = source.samples if isinstance(source, Forecast) else source
        else:
            raise ValueError(
                f"source={shown(source)}: give the file that lm.collect wrote, Samples or a Forecast"
            )
        self.recipe = _recipe_of(source, recipe)
        if self.samples.weights is not None:
            raise ValueError(
                "source: its prompts have weights, and rollouts come unweighted: rewards, rise and prices would be "
                "averages over different prompts; give samples without weights, of prompts as the run draws them"
            )
        self.every = whole_number("every", every, 1)
        self.loss_budget, self.max_overpayment = (
            None if value is None else positive_number(name, value)
            for name, value in (("loss_budget", loss_budget), ("max_overpayment", max_overpayment))
        )
        self.on_alarm = one_of("on_alarm", on_alarm, ACTIONS)
        self.delta = probability("delta", delta)
        self.probe = whole_number("probe", probe, 1)
        # The last alarm rests on the rise (delta/2), on the reward (delta/4) and on the ceiling (delta/4).
        self.prices = PriceCurves(self.samples, self.delta / 2, self.recipe)
        self.readings: list[Reading] = []
        self.looks: set[int] = set()
        self.watch: TrainerCallback | None = None

    def update(
        self,
        step: int,
        log_p: ArrayLike | None,
        rewards: ArrayLike | None,
        *,
        log_ref: ArrayLike | None = None,
        expert_log_ratio: ArrayLike | None = None,
        log_ratios: ArrayLike | None = None,
        beta: float | None = None,
        look: int | None = None,
    ) -> Reading:
        """A reading of the policy at ``step``.

        ``log_p``: its log-probabilities of responses of the start policy, whose own are ``log_ref`` (without: those of
        the collected file, for which ``lm.score`` adds ``log_p``). ``rewards``: of rollouts, ``[prompts]`` or
        ``[prompts, responses]``. One of these two may be None, where it was not measured. ``expert_log_ratio``: log
        ref/p of expert responses. ``log_ratios``: log p/ref of rollouts, for KL(p||ref) and with the run's ``beta`` for
        what the run proves (S10); 0 is no leash, of which nothing is proved. ``look``: its number from 1, which no
        other look at the run may have, in this process or another; without it, the next after the largest of this
        monitor's.

        Shapes: log_p and log_ref ``[prompts]`` or ``[prompts, responses]``. Errors: rewards outside their bounds by
        more than float32's rounding, NaN, a shape that is not that of log_ref; neither log_p nor rewards; a beta below
        0 or of no use as a divisor; a look below 1, or one that this monitor has had.
        """
        if log_p is None and rewards is None:
            raise ValueError("log_p=None, rewards=None: give one of them at least")
        rise = None if log_p is None else self._log_ratio(log_p, log_ref)
        by_prompt = None if rewards is None else self._by_prompt(rewards)
        experts = None if expert_log_ratio is None else _mean("expert_log_ratio", expert_log_ratio)
        kl = None if log_ratios is None else _mean("log_ratios", log_ratios)
        step, beta = whole_number("step", step, 0), None if beta is None else _beta(beta)
        number = None if look is None else whole_number("look", look, 1)
        return self.read(step, by_prompt, rise, experts, kl, beta, number, beside=by_prompt)

    def _by_prompt(self, rewards: ArrayLike) -> Array:
        reward = finite_array("rewards", rewards)
        if reward.ndim not in (1, 2) or not reward.size:
            raise ValueError(
                f"rewards has shape {reward.shape}: give [prompts] or [prompts, responses]"
            )
        bounds = self.samples.reward_bounds
        reward = onto_bounds(reward, bounds)
        require_within("rewards", reward, *bounds, "reward_bounds")
        return reward if reward.ndim == 1 else np.asarray(reward.mean(axis=1))

    def wrap(self, reward: Callable[..., Any] | Sequence[Callable[..., Any]]) -> Any:
        """The reward function, or the list of all of them, for TRL's ``reward_funcs``: it also measures, and logs.

        Called once: the reward of a generation is the weighted sum of all functions, and complete with the last one.

        Rewards are returned as they come. Readings go to TRL's ``log_metric`` and so to every tracker that it reports
        to. Needs ``callback`` among the trainer's callbacks, which brings it the model.

        Errors: something that is no function, or is async; a second call. Before the first step of the training:
        another number of ``reward_weights`` than of functions.
        """
        from nondecoupling.monitor.during_training import wrapped

        return wrapped(self, reward)

    @property
    def callback(self) -> TrainerCallback:
        """For a trainer's ``callbacks``: checks that the model is that of the samples, measures, and stops on alarm.

        Errors, before the first step: ``SamplesOfAnotherModel``, ``SamplingDiffers``; a trainer whose
        ``processing_class`` is no tokenizer; ``loss_budget`` or ``max_overpayment`` where nothing measured could cross
        it.
        """
        from nondecoupling.monitor.during_training import watch_of

        return watch_of(self)

    def _log_ratio(self, log_p: ArrayLike, log_ref: ArrayLike | None) -> Array:
        """log ref/p, one row for each prompt."""
        given = finite_array("log_p", log_p)
        if log_ref is None and self.collected is None:
            raise ValueError(
                "log_ref=None: the monitor was made from rewards alone; give log_ref of the same responses, or make it "
                "from the file of lm.collect"
            )
        if log_ref is None and self.collected is not None:
            log_ref = self.collected.log_ref
        start = finite_array("log_ref", [] if log_ref is None else log_ref)
        if given.shape != start.shape or given.ndim not in (1, 2) or not given.size:
            raise ValueError(
                f"log_p has shape {given.shape}, log_ref {start.shape}: give both for the same responses, [prompts] or "
                "[prompts, responses]"
            )
        for name, values in (("log_p", given), ("log_ref", start)):
            if (highest := values.max()) > MOST_LOG_P:
                raise ValueError(
                    f"{name} has the value {highest:.4g}: the log-probability of a whole response, in nats, is at most "
                    "0; give the sum over its tokens of log_softmax, not probabilities"
                )
        return np.asarray(start - given)

    def read(
        self,
        step: int,
        rewards: Array | None,
        rise: Array | None,
        experts: float | None,
        kl: float | None,
        beta: float | None,
        number: int | None = None,
        last_reward: float | None = None,
        beside: Array | None = None,
    ) -> Reading:
        """``rewards`` by prompt; ``rise`` is log ref/p, one row for each prompt; both in the order of time.

        ``number`` counts looks from 1. Where ``rewards`` are those of several policies, ``last_reward`` is that of the
        policy whose KL is ``kl``. ``beside``: the rewards of the policies whose rise is ``rise``, if these have any;
        nothing is proved of the overpayment without them.
        """
        following = max(self.looks, default=0) + 1
        number = following if number is None else number
        if number in self.looks:
            raise ValueError(
                f"look={number}: this monitor has made a look of this number, whose share of delta is spent; leave it "
                f"out, or give another, as {following}"
            )
        share = share_of(self.delta, number)
        reward = None if rewards is None else self._reward(rewards, share, number)
        paid = None
        if rise is not None:
            low = rise_lower_limit(rise, share)
            how = f"lower end: capped KL terms, {len(rise)} prompts, look {number}"
            paid = Estimate(float(rise.mean()), low, math.inf, 1 - self.delta, how)
        if last_reward is None and reward is not None:
            last_reward = reward.value
        proved = None
        if paid is not None and beside is not None:
            proved = self._proved(paid.low, self._reward(beside, share, number).high)
        reading = Reading(
            step=step,
            reward=reward,
            sft_loss_rise=paid,
            expert_loss_rise=experts,
            kl_per_response=kl,
            **self._costs(reward, paid),
            overpayment_proved=proved,
            proved_gap=None if last_reward is None else self._proved_gap(last_reward, kl, beta),
            alarms=self._alarms(paid, proved),
        )
        self.readings.append(reading)
        self.looks.add(number)
        for alarm in reading.alarms:
            logger.warning("step %d: %s", step, alarm)
        return reading

    def _reward(self, rewards: Array, share: float, number: int) -> Estimate:
        """Over all looks each of its ends fails with a quarter of delta at most, that of the rise with half of it."""
        bounds = self.samples.reward_bounds
        found = average_interval(onto_bounds(rewards, bounds), bounds, share / 2)
        how = f"{found.method}, {found.units} prompts, look {number}"
        ends = float(found.estimate), float(found.low), float(found.high)
        return Estimate(*ends, 1 - self.delta / 2, how)

    def _costs(self, reward: Estimate | None, paid: Estimate | None) -> dict[str, Any]:
        names = (
            "price",
            "price_floor",
            "price_tilt",
            "beta_equivalent",
            "price_recipe",
            "beta_recipe",
        )
        if reward is None:
            return dict.fromkeys((*names, "overpayment_ratio", "overpayment_nats"))
        prices, at = self.prices, reward.value
        price, trained = prices.cheapest(at), prices.trained
        values = (price, prices.floor(at), prices.tilt(at), prices.beta(at))
        of_recipe = (None, None) if trained is None else (trained.price(at), trained.beta(at))
        return {
            **dict(zip(names, (*values, *of_recipe), strict=True)),
            "overpayment_ratio": None if paid is None else _ratio(paid.value, price),
            "overpayment_nats": None if paid is None else _difference(paid.value, price),
        }

    def _proved(self, rise: float, reward: float) -> float:
        """The least ratio of what is paid for certain to what the reward can be had for."""
        ceiling = self.prices.ceiling(reward)
        if ceiling == 0:
            return math.inf if rise > 0 else 0.0
        return rise / ceiling

    def _proved_gap(self, reward: float, kl: float | None, beta: float | None) -> float | None:
        if kl is None or beta is None or beta <= 0:
            return None
        experts = self.samples.expert_rewards
        data = self.prices.start if experts is None else float(experts.mean())
        return float(coupling_from_run(reward - data, max(kl, 0.0), beta))

    def _alarms(self, paid: Estimate | None, proved: float | None) -> tuple[str, ...]:
        alarms = []
        if paid is not None and self.loss_budget is not None and paid.low > self.loss_budget:
            alarms.append(
                f"ALARM: the SFT loss has risen by more than {self.loss_budget:g} nats per response (at least "
                f"{paid.low:.4g})"
            )
        if (
            proved is not None
            and self.max_overpayment is not None
            and proved > self.max_overpayment
        ):
            alarms.append(
                f"ALARM: this reward can be had for less than 1/{self.max_overpayment:g} of what the run has paid for "
                f"it (at least {proved:.4g} times)"
            )
        return tuple(alarms)


def _recipe_of(
    source: CollectedSamples | Samples | Forecast, recipe: Recipe | None
) -> Recipe | None:
    if recipe is not None and not isinstance(recipe, Recipe):
        raise ValueError(f"recipe={shown(recipe)}: give nondecoupling.recipes.Recipe(...)")
    if not isinstance(source, Forecast):
        return recipe
    if recipe not in (None, source.recipe):
        raise ValueError(
            f"recipe={shown(recipe)}: the Forecast is of {source.recipe or 'exact RL'}; leave the recipe away, or give "
            "the Forecast's samples"
        )
    return source.recipe


def _beta(beta: ArrayLike) -> float:
    number = nonnegative_number("beta", beta)
    return positive_number("beta", number) if number else 0.0


def _mean(name: str, values: ArrayLike) -> float:
    array = finite_array(name, values)
    if not array.size:
        raise ValueError(f"{name} is empty: leave it out where nothing was measured")
    return float(array.mean())


OPPOSITE = {"": "", ">=": "<="}


def _ratio(rise: float, price: Bounded) -> Bounded:
    """Infinite where the reward costs nothing."""
    if price.value == 0:
        return Bounded(math.inf if rise > 0 else 1.0, OPPOSITE[price.sign])
    if price.sign:  # a higher price than its limit brings the ratio of a negative rise nearer to 0
        rise = max(rise, 0.0)
    return Bounded(rise / price.value, OPPOSITE[price.sign])


def _difference(rise: float, price: Bounded) -> Bounded:
    return Bounded(rise - price.value, OPPOSITE[price.sign])
