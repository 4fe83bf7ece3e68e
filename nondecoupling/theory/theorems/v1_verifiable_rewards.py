"""V1: Verifiable rewards: success, cost and the least KL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import expectation, kl_by_definition
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.verifiable import (
    log_given,
    log_odds,
    one_wrong_response_on_the_path,
    two_outcome_kl,
    verifiable_beta,
    verifiable_cost,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Correct, Law, Positive, Unit, Whole
from nondecoupling.theory.statement import Claim, Statement


class VerifiableRewards(Statement):
    """Verifiable rewards: success, cost and the least KL.

    Statement: r = 1 on the event A of correct responses, else 0, a = ref(A) in (0, 1): logit tilt(A) =
        logit a + 1/beta. So success c > a is reached at beta = 1/(logit c - logit a). With ref = d that
        raises the SFT loss by kl(a, c), which is the price of success c (S5): no policy with it pays less.
        For any p, KL(p||ref) = kl(p(A), a) + p(A) KL(p_A||ref_A) + (1 - p(A)) KL(p_{A^c}||ref_{A^c}), with
        conditional laws given A and its complement. So the least KL at success c is kl(c, a), attained
        exactly by unchanged conditional laws: by the tilt, where natural gradient passes. The exact
        optimum raises pass@k, the chance that one of k attempts is correct, at every prompt and k.
        Refuted: "policy gradient finds the KL-minimal solution" (RL's Razor read literally): without a
        leash it passes through p prop. to 1/(1/ref + sigma - tau r) with prod(1 + ref (sigma - tau r)) = 1,
        which favours the likelier of the correct responses.

    Assumptions: 0 < ref(A) < 1; ref and p have full support; one prompt (for cost and price, ref = d).
        The refuted claim is about a prompt with one wrong response.

    Side: identities, lower bounds, an upper bound, and a refuted claim.

    Equality when: least KL: conditional laws unchanged. Least loss: likewise.

    Units: nats per response; beta in units of reward.

    Source: chain rule of KL [CT]; the rest is ours.

    Proof idea: the tilt multiplies A by e^{1/beta} and normalises; KL given A and A^c is nonnegative.

    Example:
    >>> from nondecoupling.bounds import verifiable_beta, verifiable_cost
    >>> round(float(verifiable_beta(0.2, 0.8)), 4), round(float(verifiable_cost(0.2, 0.8)), 4)
    (0.3607, 0.8318)
    """

    id = "V1"
    title = "Verifiable rewards: success, cost and the least KL"
    depends = ("F1", "F4", "S5")
    world = dict(
        log_ref=Law(full_support=True),
        log_p=Law(full_support=True),
        correct=Correct(),
        beta=Positive(),
        lift=Unit(),
        attempts=Whole(),
        log_inside=Law(full_support=True),
        ref_success=Unit(),
        drive=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        odds = log_odds(xp, w.log_ref, w.correct)
        tilt = gibbs_tilt(xp, w.log_ref, w.correct, w.beta)
        shifted = odds + 1 / w.beta
        yield Claim("the logit of success", log_odds(xp, tilt, w.correct), "==", shifted)

        before = right_and_wrong(xp, w.log_ref, w.correct)
        rise, still_wrong = w.lift * before[1], (1 - w.lift) * before[1]
        beta = verifiable_beta(xp, before[0], still_wrong, rise)
        at_target = gibbs_tilt(xp, w.log_ref, w.correct, beta)
        after = right_and_wrong(xp, at_target, w.correct)
        yield Claim("beta for a target", after[0], "==", before[0] + rise)
        cost = verifiable_cost(xp, *before, still_wrong, rise)
        yield Claim("cost", kl_by_definition(xp, w.log_ref, at_target), "==", cost)
        # The frontier's line at b = d/p: a/c on A, (1-a)/(1-c) off it; the reward less one has M = 0.
        offset = before[0] / (before[0] + rise)
        rate = 1 / (1 - w.lift) - offset
        line = supporting_line(xp, w.log_ref, w.correct - 1, rate, offset)
        yield Claim("the cost is the price", cost, "==", line - rate * still_wrong)
        moved = kl_by_definition(xp, at_target, w.log_ref)
        least = two_outcome_kl(xp, before[0] + rise, still_wrong, *before)
        yield Claim("the tilt moves least", moved, "==", least)
        none_right, none_right_before = (xp.exp(w.attempts * xp.log(x[1])) for x in (after, before))
        yield Claim("pass@k rises", none_right, "<=", none_right_before)

        masses = right_and_wrong(xp, w.log_p, w.correct)
        divergence = kl_by_definition(xp, w.log_p, w.log_ref)
        least = two_outcome_kl(xp, *masses, *before)
        events = xp.positive(w.correct), ~xp.positive(w.correct)
        within = [
            mass
            * kl_by_definition(xp, *(log_given(xp, law, event) for law in (w.log_p, w.log_ref)))
            for mass, event in zip(masses, events, strict=True)
        ]
        yield Claim("chain rule", divergence, "==", least + within[0] + within[1])
        yield Claim("the least KL at a success", divergence, ">=", least)
        paid = kl_by_definition(xp, w.log_ref, w.log_p)
        price = two_outcome_kl(xp, *before, *masses)
        yield Claim("the least loss at a success", paid, ">=", price)

        p_right, p_wrong = one_wrong_response_on_the_path(xp, w.log_inside, w.ref_success, w.drive)
        ref_right, ref_wrong = w.ref_success * xp.exp(w.log_inside), 1 - w.ref_success
        gone = xp.sum(p_right * xp.log(p_right / ref_right)) + p_wrong * xp.log(p_wrong / ref_wrong)
        least = two_outcome_kl(xp, xp.sum(p_right), p_wrong, w.ref_success, ref_wrong)
        yield Claim("policy gradient moves least", gone, "<=", least, refuted=True)


def right_and_wrong(xp: NumberSystem, log_p: Array, correct: Array) -> tuple[Array, Array]:
    """p(A) and p(A^c), each summed by itself."""
    return expectation(xp, log_p, correct), expectation(xp, log_p, 1 - correct)
