"""From samples of the start policy to answers about a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import (
    GivenArgument,
    NamesArguments,
    finite_array,
    positive_number,
    probability,
    real_array,
    shown,
)
from nondecoupling.forecast import choices, files
from nondecoupling.forecast.answers import (
    AtBeta,
    AtReward,
    AtStart,
    Duration,
    Estimate,
    Joint,
    Recommendation,
    Threshold,
    recipe_to_dict,
)
from nondecoupling.forecast.curves import Path
from nondecoupling.forecast.planning import Plans
from nondecoupling.forecast.samples import Samples
from nondecoupling.forecast.start import at_start
from nondecoupling.forecast.support import Unsupported, unsupported
from nondecoupling.forecast.tables import as_table
from nondecoupling.forecast.trainers import ForecastTrainer
from nondecoupling.recipes import Outside, Recipe

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMAT = "nondecoupling forecast 2"


class HasSamples(Protocol):
    """What ``lm.collect`` returns, and ``CollectedSamples.read``."""

    def samples(self) -> Samples: ...


def forecast(
    samples: Samples | HasSamples,
    *,
    betas: ArrayLike = (),
    targets: ArrayLike = (),
    delta: float = 0.05,
    recipe: Recipe | None = None,
) -> Forecast:
    """A forecast of RL from the policy that made the samples; ``betas`` and ``targets`` are those ``to_dict`` lists.

    ``samples``: also what has them, such as the ``CollectedSamples`` that ``lm.collect`` returns.

    Every interval is at level 1 - delta by itself. Answers are computed when asked, on the prompts in a random order
    of fixed seed, so that a sorted file does no harm. Units: losses and KL in nats per response, the rest in those of
    the reward.

    With a ``recipe`` (``nondecoupling.recipes``) ``at_beta``, ``at_reward`` and ``recommend`` are about where that
    trainer ends, at betas in its own unit (T1-T4, T11); without ``betas`` its own is listed. ``threshold``,
    ``duration`` and ``joint`` stay about exact RL by the reverse leash, at its betas. The rewards of the samples are
    then the true ones, which a noisy verifier of the recipe blurs. What ``recipe.outside`` lists is not accounted for,
    and leashes act per response: per token (T3) no samples of whole responses tell.

    Errors: betas below 1e-6 of the trainer's unit (of exact RL the range of the reward), targets outside the open
    ``reward_bounds``, delta outside (0, 1), something other than ``Samples`` or ``Recipe``. Source: S1, S2, S5, F3, T2,
    T4.

    >>> samples = Samples([[0, 1, 0, 0, 1, 0, 1, 0]] * 100, reward_bounds=(0, 1))
    >>> plan = forecast(samples, betas=[1.0])
    >>> print(plan.at_beta(1.0).own_loss_change)
    0.1223 in [0.11..., 0.125] at level 0.95 (betting, 100 prompts, upper end cross-fitted over 8 responses)
    >>> grpo = Recipe("group-normalised", "k3-with-ratio", beta=1.0, group_size=8)
    >>> print(forecast(samples, recipe=grpo).at_beta().own_loss_change)  # normalising is a weaker leash
    0.55... in [0.34..., 0.87...] at level 0.95 (leashes at beta/1.75 and beta/2.65 (T4), ...)
    """
    return Forecast(samples, betas, targets, delta, recipe)


class Forecast:
    """What ``forecast`` returns; see there."""

    def __init__(
        self,
        samples: Samples | HasSamples,
        betas: ArrayLike,
        targets: ArrayLike,
        delta: float,
        recipe: Recipe | None = None,
    ) -> None:
        samples = _samples_of(samples)
        if recipe is not None and not isinstance(recipe, Recipe):
            raise ValueError(f"recipe={shown(recipe)}: give nondecoupling.recipes.Recipe(...)")
        self.samples, self.recipe = samples, recipe
        self.delta = probability("delta", delta)
        self._rows = samples.in_random_order()
        self._trainer = ForecastTrainer(self._rows, recipe)
        self._exact = ForecastTrainer(self._rows, None)
        asked = real_array("betas", betas).ravel().tolist()
        if not asked and recipe is not None and recipe.beta:
            asked = [recipe.beta]
        self.betas = [_beta("betas", beta, self._trainer) for beta in asked]
        listed = real_array("targets", targets).ravel().tolist()
        self.targets = [self._target("targets", target) for target in listed]
        self._plans = Plans(self._trainer, self.delta)

    def at_start(self) -> AtStart:
        """The start policy's reward, and its SFT loss where the samples have log-probabilities."""
        return at_start(self._rows, self.delta)

    def at_beta(self, beta: float | None = None) -> AtBeta | Unsupported:
        """Where training at this beta ends and what it costs; without a beta at that of the recipe.

        Errors: beta below 1e-6 of the trainer's unit (of exact RL the range of the reward); none given without a
        recipe. Source: S1, S2, F3, T2, T4.
        """
        beta = self._own_beta() if beta is None else beta
        return self._plans.at_beta(_beta("beta", beta, self._trainer))

    def at_reward(self, target: float) -> AtReward:
        """What an average reward costs: any algorithm at least, the trainer, and the beta that reaches it.

        Errors: a target outside the open ``reward_bounds``. Source: S5, S2.
        """
        target = self._target("target", target)
        price = self._plans.price(target)
        beta = self._plans.beta_reaching(target)
        if not isinstance(beta, Estimate):
            return AtReward(target, price, beta, beta)
        return AtReward(target, price, self._plans.trained_price(target, beta.value), beta)

    def recommend(
        self, *, loss_budget: float | None = None, reward_target: float | None = None
    ) -> Recommendation:
        """The beta that spends a loss budget, or that reaches a reward: guaranteed, and by the plug-in estimates.

        With a ``loss_budget`` (nats per response, on the start policy's own data): the smallest beta on a grid of
        15 % steps whose SFT loss change keeps to it; guaranteed is that of Hoeffding's bound where it is smaller, if
        training ends at tilts. With a ``reward_target``: the largest whose reward is at least that. The guaranteed
        choice is wrong with probability at most delta; it assumes that RL reaches its optimum. Beside them stands what
        the cheapest recipe pays for the same reward.

        Errors: both or neither given; a budget that is not positive; a target outside the open ``reward_bounds``.
        Source: S2, S3, S5, T2.
        """
        if (loss_budget is None) == (reward_target is None):
            raise NamesArguments(
                GivenArgument("loss_budget", loss_budget),
                ", ",
                GivenArgument("reward_target", reward_target),
                ": give one of the two",
            )
        if loss_budget is not None:
            return self._plans.within_budget(positive_number("loss_budget", loss_budget))
        assert reward_target is not None
        return self._plans.reaching(self._target("reward_target", reward_target))

    def threshold(self, beta: float) -> Threshold | Unsupported:
        """Whether exact RL at this beta lowers the SFT loss on the expert data, or raises it, and by what margin.

        Of the tilt, where the reverse leash beta KL(p||ref) ends, whatever the recipe; beta in units of the reward.

        Errors: beta below 1e-6 of the range of the reward. Source: S6.
        """
        beta = _beta("beta", beta, self._exact)
        refused = unsupported(self._rows, beta)
        return refused or choices.threshold_at(self._rows, beta, self.delta)

    def duration(self, weight: float) -> Duration | Unsupported:
        """How long to run exact RL if a nat of SFT loss on the start policy's own data costs ``weight`` of reward.

        One beta for all prompts, by the plug-in estimates, among those that the samples support; of the tilt, where
        the reverse leash beta KL(p||ref) ends, whatever the recipe; beta in units of the reward.

        Errors: a weight that is not positive. Source: P5.
        """
        weight, path = positive_number("weight", weight), Path(self._exact, self.delta)
        if not path.supported:
            assert path.first_unsupported is not None
            return path.first_unsupported
        beta = choices.best_beta(path, weight)
        ends = Plans(self._exact, self.delta / 2).at_beta(beta)  # two intervals share delta
        assert isinstance(ends, AtBeta)
        reward, loss = ends.reward, ends.own_loss_change
        worth = Estimate(
            reward.value - weight * loss.value,
            reward.low - weight * loss.high,
            reward.high - weight * loss.low,
            level=1 - self.delta,
            how=reward.how,
        )
        at_beta = Plans(self._exact, self.delta).at_beta(beta)
        return Duration(weight, beta, at_beta, worth, float(path.betas[path.supported - 1]))

    def joint(self, weights: ArrayLike, beta: float | None = None) -> list[Joint | Unsupported]:
        """RL with SFT on the start policy's own data mixed in, at each of these weights of the SFT loss.

        Of exact RL by the reverse leash beta KL(p||ref), whatever the recipe; beta in units of the reward. Without one
        at the first of ``betas``, unless a recipe gives these another meaning.

        Errors: weights that are not positive; no beta; beta below 1e-6 of the range of the reward. Source: J1, J2.
        """
        if beta is None and not self.betas:
            raise ValueError("beta=None: give one, or betas to forecast()")
        if beta is None and not self._trainer.is_exact:
            raise ValueError(
                f"beta=None: betas={shown(self.betas)} are those of the recipe ({self.recipe}); joint is about exact "
                "RL by the reverse leash: give a beta of that"
            )
        beta = _beta("beta", self.betas[0] if beta is None else beta, self._exact)
        listed = finite_array("weights", weights).ravel().tolist()
        mixed = [positive_number("weights", weight) for weight in listed]
        refused = unsupported(self._rows, beta)
        return [refused or choices.joint_at(self._rows, beta, w, self.delta) for w in mixed]

    def to_dict(self) -> dict[str, Any]:
        """The answers at the start, at ``betas`` and at ``targets``, ready for JSON."""
        return {
            "prompts": self.samples.prompts,
            "responses": self.samples.responses,
            "reward_bounds": list(self.samples.reward_bounds),
            "at_start": self.at_start().to_dict(),
            "level": 1 - self.delta,
            "recipe": None if self.recipe is None else recipe_to_dict(self.recipe),
            "at_beta": [self.at_beta(beta).to_dict() for beta in self.betas],
            "at_reward": [self.at_reward(target).to_dict() for target in self.targets],
        }

    def to_pandas(self) -> pd.DataFrame:
        """The answers at ``betas`` and ``targets`` as a table, one row for each number; needs pandas.

        Columns: ``at`` ("beta" or "reward"), ``where``, ``number``, ``value``, ``low``, ``high``, ``level``, ``how``;
        what is not supported has no numbers, and its reason as ``how``.

        Errors: ``ImportError`` without pandas.
        """
        at = [("beta", beta, self.at_beta(beta)) for beta in self.betas]
        return as_table([*at, *(("reward", c, self.at_reward(c)) for c in self.targets)])

    def plot(self, ax: Axes | None = None, *, run: Sequence[tuple[float, float]] = ()) -> Axes:
        """Draw the forecast on matplotlib axes, new ones if none are given: SFT loss against reward; extra ``plot``.

        The floor that any algorithm pays, from its lower end up to its estimate; the path of exact RL with its band
        and, with a recipe, the trainer's, as far as the samples support them; dots at ``betas``; where the start policy
        is, and the ``run``: (average reward, change of SFT loss on the start policy's own data) of each checkpoint.

        Errors: ``ImportError`` without matplotlib.
        """
        from nondecoupling.forecast.picture import draw
        from nondecoupling.plot.style import on_axes

        axes = on_axes(ax)
        answers = (self.at_beta(beta) for beta in self.betas)
        marks = [answer for answer in answers if isinstance(answer, AtBeta)]
        exact = Plans(self._exact, self.delta)
        draw(exact, None if self.recipe is None else self._plans, marks, run, axes)
        return axes

    def html(
        self,
        recommendation: Recommendation | None = None,
        *,
        run: Sequence[tuple[float, float]] = (),
    ) -> str:
        """The forecast as one self-contained page: the picture, the recommendation, the answers; extra ``plot``.

        Errors: ``ImportError`` without matplotlib.
        """
        from nondecoupling.forecast import page

        return page.html(self, recommendation, run)

    def save(self, path: str | FilePath) -> None:
        """Write samples, settings and answers to a JSON file, for ``Forecast.load``."""
        settings = {"betas": self.betas, "targets": self.targets, "delta": self.delta}
        content = {"format": FORMAT, "samples": self.samples.to_dict(), **settings}
        text = json.dumps({**content, "answers": self.to_dict()}, allow_nan=False)
        FilePath(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | FilePath) -> Forecast:
        """The forecast that ``save`` wrote; its answers are computed again from its samples.

        Errors: no such file; a file of another kind, or one that was cut off or changed.
        """
        try:
            content = json.loads(files.text_of(FilePath(path)))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}: not JSON ({error}); was it cut off? Save the forecast again"
            ) from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path}: not a file that Forecast.save wrote ({FORMAT})")
        try:
            settings = {name: content[name] for name in ("betas", "targets", "delta")}
            saved: dict[str, Any] | None = content["answers"]["recipe"]
            recipe = None
            if saved is not None:
                outside = tuple(Outside(*option) for option in saved["outside"])
                recipe = Recipe(**saved | {"outside": outside})
            return cls(Samples(**content["samples"]), **settings, recipe=recipe)
        except (KeyError, TypeError, ValueError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path}: not as Forecast.save wrote it: {what}; save the forecast again"
            ) from error

    def _own_beta(self) -> float:
        if self.recipe is None or not self.recipe.beta:
            raise ValueError("beta=None: give one, or a recipe that has one")
        return self.recipe.beta

    def _target(self, name: str, target: float) -> float:
        number, (low, high) = real_array(name, target), self.samples.reward_bounds
        if number.ndim or not low < number < high:
            raise NamesArguments(
                GivenArgument(name, target), f": choose a reward inside ({low:g}, {high:g})"
            )
        return float(number)


def _samples_of(given: object) -> Samples:
    found = given
    if not isinstance(given, Samples) and callable(of := getattr(given, "samples", None)):
        found = of()
    if not isinstance(found, Samples):
        raise ValueError(
            f"samples={shown(given)}: give Samples(rewards, reward_bounds=...), or what lm.collect returned"
        )
    return found


def _beta(name: str, beta: float, trainer: ForecastTrainer) -> float:
    """A beta in the unit of this trainer."""
    beta, least = positive_number(name, beta), trainer.least_beta
    if beta < least:
        raise NamesArguments(
            GivenArgument(name, beta),
            f": at least {least:g}, or the digits of r/beta do not suffice; RL with so little of a leash has no "
            "optimum to speak of",
        )
    return beta
