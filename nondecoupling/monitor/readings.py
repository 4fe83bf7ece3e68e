"""What a monitor says at one look at a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nondecoupling.forecast import Estimate
from nondecoupling.monitor.prices import Bounded

__all__ = ["Reading"]

PREFIX = "coupling/"
# Infinite where the reward costs nothing, which no tracker can draw.
MAYBE_INFINITE = ("overpayment_ratio", "overpayment_proved", "beta_equivalent", "beta_recipe")


@dataclass(frozen=True)
class Reading:
    """One look. Losses, KL and prices in nats per response; averages over prompts, and over the policies of a window.

    ``reward``: J(p) of rollouts. ``sft_loss_rise``: of the SFT loss on the start policy's own data, KL(ref||p); its
    lower end holds at every look, and it has no upper one. ``expert_loss_rise``: on expert responses, which may fall
    (S6). ``kl_per_response``: KL(p||ref) of rollouts, in a training of the window's last generation; a trainer's ``kl``
    often is its mean over tokens.

    Of this reward: ``price``, the least that any algorithm pays (S5), plug-in; ``price_floor``, a limit of it that
    holds; ``price_tilt``, what exact KL-regularised RL pays, at the beta ``beta_equivalent``; with a recipe
    ``price_recipe``, what its trainer pays, at ``beta_recipe`` in its own unit (T1-T4, T11). Beyond what the samples
    have each price is ">=" the floor, and a beta "<=" the least that certainly has less reward; those of a recipe with
    normalised advantages also where the reward is higher than at its critical beta, below which nothing is stationary
    (T4).

    ``overpayment_ratio`` and ``overpayment_nats``: the rise over and above ``price`` (S9). ``overpayment_proved``: the
    lower end of the rise over what the reward can be had for, a ratio that holds at every look. Both ratios are
    infinite where a rise buys no reward, ``overpayment_nats`` never is.

    ``proved_gap``: (J(p) - J(d))/beta - KL(p||ref), what the exact optimum at the run's beta loses at least (S10), with
    J(p) and KL(p||ref) of one policy, in a training that of the window's last generation; an estimate, as KL(p||ref)
    has no upper limit. ``alarms``: what was crossed, as sentences.

    None where it was not measured.
    """

    step: int
    reward: Estimate | None
    sft_loss_rise: Estimate | None
    expert_loss_rise: float | None
    kl_per_response: float | None
    price: Bounded | None
    price_floor: float | None
    price_tilt: Bounded | None
    beta_equivalent: Bounded | None
    price_recipe: Bounded | None
    beta_recipe: Bounded | None
    overpayment_ratio: Bounded | None
    overpayment_nats: Bounded | None
    overpayment_proved: float | None
    proved_gap: float | None
    alarms: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """Names and finite numbers for a tracker; what is not measured is left out.

        ``coupling/beyond_samples`` is 1 where ``price`` or ``price_tilt`` is a bound, the floor, and
        ``coupling/price_recipe_bound`` where ``price_recipe`` is, for whichever reason.
        ``coupling/overpayment_ratio_infinite`` is 1 where the run has paid and has no more reward than at its start,
        and 0 at every other reading with a ratio; the infinite number itself is left out. So are
        ``overpayment_proved``, ``beta_equivalent`` and ``beta_recipe``. "<= inf" says nothing: it is left out, and its
        flag is 0.
        """
        found = {
            name: value.value if isinstance(value, (Estimate, Bounded)) else value
            for name, value in vars(self).items()
            if name not in ("step", "alarms")
        }
        for name in MAYBE_INFINITE:
            if (value := found[name]) is not None:
                limit = bool(getattr(vars(self)[name], "sign", ""))
                found[f"{name}_infinite"] = float(math.isinf(value) and not limit)
        found["alarm"] = float(bool(self.alarms))
        if self.sft_loss_rise is not None:
            found["sft_loss_rise_low"] = self.sft_loss_rise.low
        if self.price is not None:
            found["beyond_samples"] = float(any(p.sign for p in (self.price, self.price_tilt) if p))
        if self.price_recipe is not None:
            found["price_recipe_bound"] = float(bool(self.price_recipe.sign))
        return {
            PREFIX + name: float(value)
            for name, value in found.items()
            if value is not None and math.isfinite(value)
        }

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: estimates as ``Estimate.to_dict``, bounds as they print, an infinite number as "inf"."""
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Estimate):
                plain[name] = value.to_dict()
            elif isinstance(value, Bounded):
                plain[name] = str(value) if value.sign else _plain(value.value)
            elif isinstance(value, float):
                plain[name] = _plain(value)
            else:
                plain[name] = list(value) if isinstance(value, tuple) else value
        return plain

    def __str__(self) -> str:
        parts = [f"step {self.step}"]
        if self.reward is not None:
            low, high = self.reward.low, self.reward.high
            parts.append(f"reward {self.reward.value:.4g} in [{low:.4g}, {high:.4g}]")
        rise = self.sft_loss_rise
        if rise is not None:
            parts.append(f"rise of the SFT loss {rise.value:.4g} nats (at least {rise.low:.4g})")
        if self.expert_loss_rise is not None:
            parts.append(f"on expert data {self.expert_loss_rise:+.4g}")
        if self.price is not None:
            parts.append(f"price {self.price}")
            parts.append(f"of exact RL {self.price_tilt} at beta {self.beta_equivalent}")
        if self.price_recipe is not None:
            parts.append(f"of the recipe {self.price_recipe} at its beta {self.beta_recipe}")
        if self.overpayment_ratio is not None:
            parts.append(f"overpaid {self.overpayment_ratio} times, {self.overpayment_nats} nats")
        if self.kl_per_response is not None:
            parts.append(f"KL {self.kl_per_response:.4g}")
        if self.proved_gap is not None:
            parts.append(f"proved gap {self.proved_gap:.4g}")
        return ", ".join([*parts, *self.alarms])


def _plain(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(value)
