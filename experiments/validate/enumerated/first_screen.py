"""What the enumerated report opens with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nondecoupling.deciding.verdict import Status
from validate.configuration import WHOLE
from validate.enumerated.checks import TRAINED
from validate.enumerated.digest import Digest
from validate.enumerated.episodes import Episode
from validate.first_screen import FirstScreen, figures_of
from validate.orders import STAGES

__all__ = ["first_screen"]

Law = NDArray[np.float64]

VERDICTS = {
    "holds": "Every applicable statement holds",
    "violated": "At least one statement is violated",
    "undecided": "At least one statement stayed undecided",
}


def first_screen(result: Digest) -> FirstScreen:
    episode = _main(result)
    mean, p, best = episode.mean, episode.rl[-1].log_p, episode.best
    stage = STAGES[episode.rl[-1].stage]
    d, start = mean.log_d, _start(result, episode)
    return FirstScreen(
        title=stage.title,
        verdict=VERDICTS[result.outcome],
        picture=f"plane-{episode.ref.stage}.svg",
        figures=figures_of(
            stage.action,
            loss=(mean.kl(d, start), mean.kl(d, p)),
            predicted=(mean.kl(d, best.log_p), mean.j(best.log_p)),
            by=best.statement,
            least=mean.average_price(p),
            reward=(mean.j(start), mean.j(p)),
        ),
        confirmed=_confirmed(result),
        not_confirmed=_not_confirmed(result),
    )


def _main(result: Digest) -> Episode:
    """RL where the order has it for its own sake, else the last stage that it is named after."""
    if result.config.order in (*WHOLE, "all"):
        return result.episodes[0]
    return result.episodes[-1]


def _start(result: Digest, episode: Episode) -> Law:
    """What the stage starts from: ref, but for replay, which goes on from RL."""
    start = STAGES[episode.rl[-1].stage].start
    ends = {other.rl[-1].stage: other.rl[-1].log_p for other in result.episodes}
    return ends.get(start, episode.ref.log_p)


def _confirmed(result: Digest) -> str:
    applied = [s for s in result.statements if s.status is not Status.OUT_OF_SCOPE]
    holding = {s.statement for s in applied if s.status is Status.HOLDS}
    held = [row for row in result.rows if row.status is Status.HOLDS and row.statement in holding]
    trained = sum(row.kind == TRAINED for row in held)
    return (
        f"{len(holding)} of the {len(applied)} statements that applied hold, in {len(held)} checks; {trained} of these "
        "are inequalities about what training produced, the others are computed or could fail only through a bug."
    )


def _not_confirmed(result: Digest) -> str:
    names = {
        status: [s.statement for s in result.statements if s.status is status] for status in Status
    }
    said = [
        f"{word}: {', '.join(names[status])}"
        for status, word in ((Status.REFUTED, "violated"), (Status.UNDECIDED, "undecided"))
        if names[status]
    ] or ["nothing is violated or undecided"]
    if result.never_applied:
        said.append(f"never applied: {', '.join(result.never_applied)}")
    said.append("one model, one seed, one beta")
    return "; ".join(said) + "."
