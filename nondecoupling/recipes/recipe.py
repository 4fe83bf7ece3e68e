"""``Recipe``: the parts of an RL trainer that decide where it ends, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from nondecoupling.formulas.groups import Deviation
from nondecoupling.formulas.recipes import Leash
from nondecoupling.recipes import trl
from nondecoupling.recipes.arguments import LARGEST_GROUP, real_number, whole_number
from nondecoupling.recipes.trl import Outside

Advantage = Literal["leave-one-out", "group-mean", "group-normalised"]
Holds = Literal["reverse", "forward", "nothing", "no maximum", "no closed form"]
HOLDS: dict[Leash, Holds] = {
    "none": "nothing",
    "k1-in-reward": "reverse",
    "k2-in-reward": "no closed form",
    "k3-in-reward": "no maximum",
    "k1-in-loss": "nothing",
    "k2-in-loss": "reverse",
    "k3-in-loss": "forward",
    "k3-with-ratio": "reverse",
}


@dataclass(frozen=True)
class Recipe:
    """An RL trainer as its expected gradient sees it: advantage, leash, entropy bonus, verifier noise.

    In expectation over groups, at the policy p, the trainer moves log p along E_p[R grad log p] with

        R = s (r - penalty in the reward) - penalty in the loss - entropy_bonus log p,

    s = 1 for "leave-one-out", (G-1)/G for "group-mean" and h_G(p(r = 1)) for "group-normalised", whose advantages
    are (r - mean)/(sd + eps). A penalty is beta times what its estimator contributes (T1): k in the reward, k' in the
    loss and k + k' with the ratio, where k1 = u, k2 = u^2/2, k3 = e^-u - 1 + u and u = log(p/ref).

    ``group_size=None`` is the limit of large groups. ``beta`` is in reward units per nat, ``eps`` in reward units,
    ``entropy_bonus`` as beta. A verifier accepts a wrong response with the chance ``false_positives`` and refuses a
    correct one with ``false_negatives``. ``outside`` lists what the trainer does beyond all this, with the reason
    why the theory does not speak of it. Numbers may be Python's, NumPy's or torch's, 0-d arrays too; they become
    Python's, without a gradient. A group has at most a million responses.

    Errors: ``ValueError`` naming the field, the value and the remedy. Source: T1, T2, T4, T11.

    >>> recipe = Recipe.from_trl({"beta": 0.04, "loss_type": "dr_grpo"}, trainer="grpo")  # the rest as TRL's defaults
    >>> recipe.advantage, recipe.group_size, recipe.sd, recipe.eps, recipe.leash
    ('group-normalised', 8, 'sample', 0.0001, 'k3-with-ratio')
    >>> [option for option, reason in recipe.outside]
    ['beta']
    """

    advantage: Advantage
    leash: Leash
    beta: float
    group_size: int | None = None
    sd: Deviation = "population"
    eps: float = 0.0
    entropy_bonus: float = 0.0
    false_positives: float = 0.0
    false_negatives: float = 0.0
    outside: tuple[Outside, ...] = ()

    def __post_init__(self) -> None:
        for name, words in (("advantage", Advantage), ("leash", Leash), ("sd", Deviation)):
            if getattr(self, name) not in get_args(words):
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: one of {', '.join(map(repr, get_args(words)))}"
                )
        if self.group_size is not None:
            size = whole_number(self.group_size)
            if size is None or not 2 <= size <= LARGEST_GROUP:
                raise ValueError(
                    f"group_size={self.group_size!r}: a whole number, at least 2 and at most {LARGEST_GROUP}, or None "
                    "for the limit of large groups"
                )
            object.__setattr__(self, "group_size", size)
        for name in ("beta", "eps", "entropy_bonus", "false_positives", "false_negatives"):
            number = real_number(getattr(self, name))
            if not 0 <= number < math.inf:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: must be a finite number, at least 0"
                )
            object.__setattr__(self, name, number)
        if self.leash == "none" and self.beta:
            raise ValueError(f"beta={self.beta}: with leash='none' give beta=0, or choose a leash")
        if self.told <= 0:
            raise ValueError(
                f"false_positives={self.false_positives}: with false_negatives={self.false_negatives} the verifier "
                "tells nothing; their sum must be less than 1"
            )

    @classmethod
    def from_trl(cls, config: Any, trainer: Literal["grpo", "rloo"] | None = None) -> Recipe:
        """The recipe of a ``GRPOConfig`` or ``RLOOConfig`` of TRL 1.16, or of a mapping or namespace of its options.

        What a mapping does not give has TRL's default; ``trainer`` says whose where the class does not. Options that
        do not move the expected gradient (optimiser, schedule, logging, devices) are not read. Rewards are meant with
        ``reward_weights`` on them. What TRL does and this theory does not speak of is listed in ``outside``.

        An option that only the other trainer has is refused even at its default, which may be the opposite of what
        this trainer does: ``normalize_advantages=False`` is RLOO's, and GRPO normalises.

        Errors: ``ValueError`` for a value that no training can have, for a name that would be passed over (misspelt,
        the other trainer's, or one level down, as in ``{"grpo": {"beta": 0.1}}``), and where ``trainer`` is missing.

        >>> Recipe.from_trl({}, trainer="rloo")
        Recipe(advantage='leave-one-out', leash='k1-in-reward', beta=0.05, group_size=2, ...)
        """
        return cls(**trl.fields_of(config, trainer))

    def __str__(self) -> str:
        """In words, without what is at its default; ``outside`` by the names of the options.

        >>> print(Recipe("leave-one-out", "k3-in-loss", 0.5, entropy_bonus=0.1))
        leave-one-out advantages, leash k3-in-loss, beta 0.5, entropy bonus 0.1
        """
        words = [f"{self.advantage} advantages", f"leash {self.leash}", f"beta {self.beta:.4g}"]
        for field in fields(self)[3:]:
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name == "outside":
                value = " and ".join(option for option, _ in value)
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            words.append(f"{field.name.replace('_', ' ')} {text}")
        return ", ".join(words)

    @property
    def told(self) -> float:
        """1 - f0 - f1: what a verdict tells of the reward (T11)."""
        return 1 - self.false_positives - self.false_negatives

    @property
    def holds(self) -> Holds:
        """Which divergence the leash holds: "reverse" KL(p||ref), "forward" KL(ref||p), or why there is none (T2)."""
        return HOLDS[self.leash] if self.beta else "nothing"

    @property
    def met_beta(self) -> float:
        """The beta that one unit of the true reward meets (T1, T11); ``beta`` for normalised advantages, 0 for none."""
        if self.holds == "nothing":
            return 0.0
        if self.advantage == "group-normalised":
            return self.beta
        scale = 1.0 if self.leash.endswith("in-reward") else self.scale
        return self.beta / (scale * self.told)

    @property
    def scale(self) -> float:
        """(G-1)/G where a reward is compared with the mean of a group that it is in, otherwise 1."""
        if self.advantage != "group-mean" or self.group_size is None:
            return 1.0
        return (self.group_size - 1) / self.group_size
