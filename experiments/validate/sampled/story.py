"""The sentences of a sampled report: what was found, and what was not shown."""

from __future__ import annotations

from dataclasses import dataclass

from nondecoupling.estimate import Outcome
from validate.configuration import ALTERNATE, OWN_RESPONSES
from validate.orders import STAGES
from validate.sampled.claims import FINDING, SELF_TEST, THEOREM
from validate.sampled.digest import DecidedClaim, Result

__all__ = ["Answer", "answers", "what_it_does_not_show", "what_was_found"]


@dataclass(frozen=True)
class Answer:
    policy: str
    question: str
    answer: str
    sides: str
    statement: str


def what_was_found(result: Result) -> list[str]:
    """The counts of all verdicts."""
    used = result.config.eval_prompts
    counts = {
        kind: {outcome: result.count(kind, outcome) for outcome in Outcome}
        for kind in (SELF_TEST, THEOREM, FINDING)
    }
    confirmed, violated, open_ = Outcome.CONFIRMED, Outcome.VIOLATED, Outcome.INCONCLUSIVE
    by_bootstrap = sum(row.by_bootstrap for row in result.rows)
    lines = [
        f"Verdicts at level {1 - result.config.delta:g} together (Holm over {len(result.rows)} rows, {used} "
        f"prompts drawn from the held-out ones, {result.config.responses} responses each per policy). "
        f"{by_bootstrap} of the verdicts rest on a bootstrap's end, marked ~, and have that level only for many "
        "prompts; the others have it at every sample size.",
        f"Theorems: {counts[THEOREM][confirmed]} confirmed, {counts[THEOREM][violated]} violated, "
        f"{counts[THEOREM][open_]} inconclusive. Self-tests: {counts[SELF_TEST][violated]} of "
        f"{sum(counts[SELF_TEST].values())} found a difference between sampler and scorer.",
        f"Findings: {counts[FINDING][confirmed]} confirmed, {result.contradicted} contradicted, {result.denied} "
        f"answered no without the opposite, {counts[FINDING][open_]} inconclusive.",
    ]
    return lines


def answers(result: Result) -> list[Answer]:
    """Of every finding, which may come out either way."""
    return [
        Answer(
            policy=_title(row.claim.policy),
            question=f"{row.claim.claim}?",
            answer=_answer(row),
            sides=f"{row.claim.lhs:.3f} against {row.claim.rhs:.3f} {row.claim.unit}",
            statement=row.claim.statement,
        )
        for row in result.rows
        if row.claim.kind == FINDING
    ]


def _answer(row: DecidedClaim) -> str:
    return {
        Outcome.CONFIRMED: "yes",
        Outcome.VIOLATED: row.claim.denial,
        Outcome.INCONCLUSIVE: "not decided",
    }[row.outcome]


def _title(policy: str) -> str:
    """Of a stage, or of its exact optimum."""
    exact, _, stage = policy.rpartition(" of ")
    return f"{exact} of {STAGES[stage].title}" if exact else STAGES[stage].title


def what_it_does_not_show(result: Result) -> list[str]:
    """The limits of the run, next to its findings."""
    config = result.config
    lines = [
        f"One model, one seed, one beta, one reward ({config.reward}), short responses (at most "
        f"{config.max_tokens} tokens). The verdicts are about these policies on the held-out prompts of "
        f"{config.held_out_data!r}, not about post-training at large.",
        "Inconclusive is not evidence for either side: the resolution column says what this many prompts could "
        "have seen.",
        "A trained policy is not the exact RL optimum. Predicted and observed numbers are compared without a verdict; "
        "the theorems hold for any policy.",
        "Self-tests can find that sampler and scorer differ; that they agree cannot be confirmed by samples.",
        "Losses and divergences have no upper bound. Ends of intervals that need one are a bootstrap's, valid only for "
        "many prompts; verdicts that rest on them are marked ~.",
        "The predictions and the curves of the Pareto plot are computed from estimated laws (the experts' responses "
        f"exactly, everything else by its reward, from {config.responses} responses of ref a prompt) and have no "
        "interval. They put beta log Z, and the loss and reward at which exact RL ends, too low on average (Jensen), "
        "the more so the more of ref's mass is off the list. The least of any policy (S5) is a limit.",
        "Statements about the landscape (P1-P6), R1-R3 at the exact tilt and S3 are not tested here; the "
        "enumerated protocol evaluates those that are about a finite law.",
    ]
    if not config.self_distilled:
        lines.append(
            "The data law is ours: six responses per prompt, with known weights. SFT sees samples of it on other "
            "prompts, so its distance eps to the data law on these prompts includes what it failed to learn."
        )
    else:
        lines.append(
            "Self-distilled data: d is the law of ref itself, so eps = 0 by construction, and SFT after RL sees "
            "samples of it on the training prompts."
        )
    if config.order in OWN_RESPONSES:
        limit, groups = "", ""
        if config.order == "weighted-sft":
            limit, groups = ", in the limit of large groups", f", in groups of {config.generations}"
        lines.append(
            f"The predicted end is that of SFT on ref's responses to these prompts{limit}. SFT was trained on ref's "
            f"responses to other prompts{groups}."
        )
    if config.order == ALTERNATE:
        lines.append(
            "The predicted end is the frontier policy of the data at beta = SFT steps : RL steps = "
            f"{config.alternation_beta:.3g}, which a tabular trainer reaches in the limit of short cycles of exact "
            "gradients. AdamW and the noise of samples are not in it."
        )
    if config.rl != "rloo":
        lines.append(
            f"RL by {config.rl} does not maximise J_b; its distance to the tilt says nothing about how well it was "
            "trained."
        )
    return lines
