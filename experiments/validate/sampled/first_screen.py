"""What the sampled report opens with."""

from __future__ import annotations

from nondecoupling.estimate import Outcome
from validate.first_screen import FirstScreen, figures_of
from validate.orders import STAGES
from validate.sampled.claims import FINDING, SELF_TEST, THEOREM
from validate.sampled.digest import Result
from validate.sampled.tables import changes

__all__ = ["first_screen", "main_policy"]

VERDICTS = {"holds": "No theorem is violated", "violated": "A theorem or a self-test is violated"}


def main_policy(result: Result) -> str:
    """The first policy that RL made, or joint training where there is no RL."""
    return next(changes(result)).stage


def first_screen(result: Result) -> FirstScreen:
    change = next(changes(result))
    e, stage = result.evidence(change.stage), STAGES[change.stage]
    assert stage.ref is not None
    before, reward = float(e.ref_excess.mean()), change.reward
    return FirstScreen(
        title=stage.title,
        verdict=VERDICTS[result.outcome],
        picture=f"plane-{stage.ref}.svg",
        figures=figures_of(
            stage.action,
            loss=(before, before + change.loss_change),
            predicted=before + change.predicted_loss_change,
            by=change.statement,
            least=result.landscapes[stage.ref].price(reward),
            reward=(float(e.ref_reward.mean()), reward),
        ),
        confirmed=_confirmed(result),
        not_confirmed=_not_confirmed(result),
    )


def _confirmed(result: Result) -> str:
    kinds = [f"{result.count(kind, Outcome.CONFIRMED)} {kind}s" for kind in (THEOREM, FINDING)]
    return (
        f"{' and '.join(kinds)} are confirmed, all verdicts right together with probability "
        f"{1 - result.config.delta:g}."
    )


def _not_confirmed(result: Result) -> str:
    tests = result.count(SELF_TEST, Outcome.VIOLATED)
    return (
        f"{result.count(THEOREM, Outcome.VIOLATED)} theorems violated, {result.count(THEOREM, Outcome.INCONCLUSIVE)} "
        f"inconclusive; {result.count(FINDING, Outcome.VIOLATED)} findings came out the other way, "
        f"{result.count(FINDING, Outcome.INCONCLUSIVE)} are inconclusive; {tests} self-tests found a difference; one "
        "model, one seed, one beta."
    )
