"""What the sampled report opens with."""

from __future__ import annotations

from nondecoupling.estimate import Outcome
from validate.first_screen import FirstScreen, figures_of
from validate.orders import STAGES
from validate.sampled.claims import FINDING, SELF_TEST, THEOREM
from validate.sampled.digest import Result
from validate.sampled.landscape import estimated_by, least_loss
from validate.sampled.tables import DISPLAY, changes, landings

__all__ = ["first_screen", "main_policy"]

VERDICTS = {"holds": "No theorem is violated", "violated": "A theorem or a self-test is violated"}


def main_policy(result: Result) -> str:
    """The first policy whose reward was raised: by RL, joint training, alternation, or SFT on ref's own responses."""
    return next(changes(result)).stage


def first_screen(result: Result) -> FirstScreen:
    change = next(changes(result))
    e, stage = result.evidence(change.stage), STAGES[change.stage]
    assert stage.ref is not None
    before, reward, on_ref = float(e.ref_excess.mean()), change.reward, result.on_ref(stage.ref)
    landed = next(one for one in landings(result, stage.ref) if one.title == stage.title)
    assert landed.reward_ends is not None
    low, high = landed.reward_ends
    return FirstScreen(
        title=stage.title,
        verdict=VERDICTS[result.outcome],
        picture=f"plane-{stage.ref}.svg",
        figures=figures_of(
            stage.action,
            loss=(before, before + change.loss_change),
            predicted=(before + change.predicted_loss_change, change.predicted_reward),
            by=change.statement + estimated_by(on_ref, change.statement),
            # The estimated reward may lie above the true one, and then so would its price.
            least=float(least_loss(on_ref, low, DISPLAY)),
            reward=(float(e.ref_reward.mean()), reward),
            notes=(
                _ends(landed.loss_ends),
                f"for a reward of {low:.3f}, the lower end, by any algorithm (S5)"
                + "; a lower end itself" * result.experts.self_distilled,
                _ends((low, high)),
            ),
        ),
        confirmed=_confirmed(result),
        not_confirmed=_not_confirmed(result),
    )


def _ends(ends: tuple[float, float] | None) -> str:
    return (
        f"; 95 %: {ends[0]:.3f} to {ends[1]:.3f}" if ends else "; too few prompts for an interval"
    )


def _confirmed(result: Result) -> str:
    rows = [row for row in result.rows if row.outcome is Outcome.CONFIRMED]
    theorems = [row for row in rows if row.claim.kind == THEOREM]
    findings = [row for row in rows if row.claim.kind == FINDING]
    names = {row.claim.statement for row in theorems}
    said = (
        f"{len(theorems)} rows about {len(names)} theorems and {len(findings)} findings; all verdicts of the run are "
        f"right together with probability at least {1 - result.config.delta:g}"
    )
    if weak := sum(row.by_bootstrap for row in result.rows):
        said += f", as far as {weak} of them that rest on a bootstrap, marked ~, have their level"
    return said + "."


def _not_confirmed(result: Result) -> str:
    said = {
        "theorems violated": result.count(THEOREM, Outcome.VIOLATED),
        "theorems inconclusive": result.count(THEOREM, Outcome.INCONCLUSIVE),
        "findings that came out the other way": result.contradicted,
        "findings answered no without the opposite": result.denied,
        "findings inconclusive": result.count(FINDING, Outcome.INCONCLUSIVE),
        "self-tests that found a difference": result.count(SELF_TEST, Outcome.VIOLATED),
    }
    counts = (f"{what}: {count}" for what, count in said.items())
    return "; ".join((*counts, "one model, one seed, one beta")) + "."
