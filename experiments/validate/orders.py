"""Which training stages an order has, where each starts, and which policy is its ref.

The stages of replay are of the enumerated protocol, those of the other orders of both.
A stage starts from the untrained model ("base") or from the result of another stage. ``ref`` is the stage whose result
plays ref in everything said about it; before RL there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from validate.configuration import WHOLE, EnumeratedConfiguration, RunConfiguration

__all__ = ["BASE", "EPISODES", "ORDERS", "STAGES", "Stage", "plan", "policies_table"]

BASE = "base"


@dataclass(frozen=True)
class Stage:
    name: str
    title: str
    # "sft", "rl", "joint": RL with the SFT loss mixed in, "alternate": RL without a leash and SFT by turns, or
    # "distil": SFT on another law than the data's
    objective: str
    start: str
    ref: str | None

    @property
    def action(self) -> str:
        """What the stage is called in a sentence."""
        return {
            "sft": "SFT",
            "rl": "RL",
            "joint": "joint training",
            "alternate": "alternation",
            "distil": self.title,
        }[self.objective]

    def steps(self, config: RunConfiguration) -> int:
        if self.name == "warm-up":
            return config.warmup_steps
        if self.objective == "alternate":
            rl, sft = config.cycle()
            return (
                config.cycles * (rl + sft) + {"sft": 0, "half-rl": rl // 2, "rl": rl}[config.finish]
            )
        return config.sft_steps if self._as_sft(config) else config.rl_steps

    def rate(self, config: RunConfiguration) -> float:
        """The largest learning rate."""
        return config.sft_rate if self._as_sft(config) else config.rl_rate

    def _as_sft(self, config: RunConfiguration) -> bool:
        """Whether steps and rate are those of SFT. In samples what is trained beside RL has as many of them as RL."""
        if self.objective == "distil":
            return isinstance(config, EnumeratedConfiguration)
        return self.objective == "sft"


STAGES = {
    stage.name: stage
    for stage in (
        Stage("sft", "SFT", "sft", BASE, None),
        Stage("rl", "RL after SFT", "rl", "sft", "sft"),
        Stage("sft-again", "SFT after RL (cycle)", "sft", "rl", "sft"),
        Stage("joint", "joint RL and SFT", "joint", "sft", "sft"),
        Stage("warm-up", "warm-up SFT", "sft", BASE, None),
        Stage("rl-first", "RL from the warm-up", "rl", "warm-up", "warm-up"),
        Stage("sft-after", "SFT after RL", "sft", "rl-first", "warm-up"),
        Stage("replay", "SFT on data and replay of RL", "distil", "rl", "sft"),
        Stage("alternate", "alternation of RL and SFT", "alternate", "sft", "sft"),
        Stage("best-of-n", "SFT on best of n", "distil", "sft", "sft"),
        Stage("weighted-sft", "SFT on weighted responses", "distil", "sft", "sft"),
    )
}
ORDERS = {
    "sft-rl": ("sft", "rl"),
    "rl-sft": ("warm-up", "rl-first", "sft-after"),
    "cycle": ("sft", "rl", "sft-again"),
    "joint": ("sft", "joint"),
    "replay": ("sft", "rl", "replay"),
    "alternate": ("sft", "alternate"),
    "best-of-n": ("sft", "best-of-n"),
    "weighted-sft": ("sft", "weighted-sft"),
}
# What is reported together: the SFT before RL, the RL, and the SFT after it if there is one.
EPISODES = (
    ("sft", "rl", "sft-again"),
    ("sft", "joint", None),
    ("warm-up", "rl-first", "sft-after"),
    ("sft", "replay", None),
    ("sft", "alternate", None),
    ("sft", "best-of-n", None),
    ("sft", "weighted-sft", None),
)


def plan(order: str) -> list[Stage]:
    """The stages to train, in turn. "all" trains each stage once, however many of its orders share it."""
    if order != "all":
        return [STAGES[name] for name in ORDERS[order]]
    trained = {name for one in WHOLE for name in ORDERS[one]}
    return [stage for stage in STAGES.values() if stage.name in trained]


def policies_table(
    order: str,
    data_law: str,
    rl: str = "maximises J(p) - beta KL(p||ref)",
    distil: str = "minimises CE(its predicted end, p)",
) -> list[dict[str, str]]:
    """Which policy plays ref, p and d in each stage of each order.

    ``rl`` is what RL does, ``distil`` what SFT on another law than the data's does.
    """
    doing = {
        "sft": "minimises CE(d, p)",
        "rl": rl,
        "joint": "maximises J(p) - beta KL(p||ref) - lambda CE(d, p)",
        "alternate": "maximises J(p) and minimises CE(d, p) by turns",
        "distil": distil,
    }
    table = []
    for name, stages in ORDERS.items():
        if order != name and not (order == "all" and name in WHOLE):
            continue
        for stage in (STAGES[s] for s in stages):
            ref = STAGES[stage.ref].title if stage.ref else None
            own = data_law == "self" and ref is not None
            note = {"rl": "; the last one is p1 of R8", "joint": "; the last one is p1 of R8"}
            after = "; the last one is p2 of R8" if stage.objective == "sft" and ref else ""
            table.append(
                {
                    "order": name,
                    "stage": stage.title,
                    "starts from": "the base model"
                    if stage.start == BASE
                    else f"the result of {STAGES[stage.start].title}",
                    "training": doing[stage.objective],
                    "d": f"the law of ref, the result of {ref}"
                    if own
                    else "the data law of the experts",
                    "ref": f"the result of {ref}" if ref else "none yet",
                    "p": "the policy at each checkpoint" + note.get(stage.objective, after),
                }
            )
    return table
