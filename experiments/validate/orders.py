"""Which training stages an order has, where each starts, and which policy is its ref.

Both protocols train the same stages. A stage starts from the untrained model ("base") or from the result of another
stage. ``ref`` is the stage whose result plays ref in everything said about it; before RL there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from validate.configuration import RunConfiguration

__all__ = ["BASE", "EPISODES", "ORDERS", "STAGES", "Stage", "plan", "policies_table"]

BASE = "base"


@dataclass(frozen=True)
class Stage:
    name: str
    title: str
    objective: str  # "sft", "rl", or "joint": RL with the SFT loss mixed in
    start: str
    ref: str | None

    @property
    def action(self) -> str:
        """What the stage is called in a sentence."""
        return {"sft": "SFT", "rl": "RL", "joint": "joint training"}[self.objective]

    def steps(self, config: RunConfiguration) -> int:
        if self.name == "warm-up":
            return config.warmup_steps
        return config.sft_steps if self.objective == "sft" else config.rl_steps


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
    )
}
ORDERS = {
    "sft-rl": ("sft", "rl"),
    "rl-sft": ("warm-up", "rl-first", "sft-after"),
    "cycle": ("sft", "rl", "sft-again"),
    "joint": ("sft", "joint"),
}
# What is reported together: the SFT before RL, the RL, and the SFT after it if there is one.
EPISODES = (
    ("sft", "rl", "sft-again"),
    ("sft", "joint", None),
    ("warm-up", "rl-first", "sft-after"),
)


def plan(order: str) -> list[Stage]:
    """The stages to train, in turn. "all" trains each stage once, however many orders share it."""
    if order != "all":
        return [STAGES[name] for name in ORDERS[order]]
    return list(STAGES.values())


def policies_table(order: str, data_law: str) -> list[dict[str, str]]:
    """Which policy plays ref, p and d in each stage of each order."""
    doing = {
        "sft": "minimises CE(d, p)",
        "rl": "maximises J(p) - beta KL(p||ref)",
        "joint": "maximises J(p) - beta KL(p||ref) - lambda CE(d, p)",
    }
    table = []
    for name, stages in ORDERS.items():
        if order not in (name, "all"):
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
