"""The sentences of an enumerated report: what held, and what was not shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from nondecoupling.deciding.verdict import Status
from validate.enumerated.checks import CONSEQUENCE, IDENTITY, NEAR_OPTIMAL, OPTIMUM, TRAINED
from validate.enumerated.digest import Digest
from validate.enumerated.endings import Ending
from validate.enumerated.episodes import Episode
from validate.enumerated.means import PromptMeans

__all__ = ["moved", "what_held", "what_it_does_not_show"]

# The last digit of the losses and rewards in the sentences.
SHOWN = 1e-3


def what_held(result: Digest) -> list[str]:
    """The summary that opens the report."""
    verdicts = {status: result.count(status) for status in Status}
    applied = [row for row in result.rows if row.status is not Status.OUT_OF_SCOPE]
    kinds = Counter(row.kind for row in applied)
    lines = [
        f"{verdicts[Status.HOLDS]} of {len(applied)} applicable checks hold, {verdicts[Status.REFUTED]} are "
        f"violated and {verdicts[Status.UNDECIDED]} undecided; {verdicts[Status.OUT_OF_SCOPE]} did not "
        f"apply because an assumption was not met. Of those that applied, {kinds[IDENTITY] + kinds[CONSEQUENCE]} are "
        f"identities or follow from one, so only a bug could break them; {kinds[OPTIMUM]} are inequalities about "
        f"exact optima, which are computed; {kinds[TRAINED]} are inequalities about what training produced."
    ]
    for episode in result.episodes:
        if episode.is_joint:
            lines += _joint_story(episode)
        elif episode.ending is not None:
            lines += _ending_story(episode, episode.ending)
        else:
            lines += _story(episode)
    findings = [row for s in result.statements for row in s.inequalities]
    sized = [row for row in findings if row.rhs > 0]
    if sized:
        row = min(sized, key=lambda r: r.relative_margin)
        lines.append(
            f"The inequality with the smallest margin for its size is {row.statement} at {row.place} ({row.claim}): "
            f"{row.lhs:.4g} against {row.rhs:.4g} {row.unit}, a margin of {row.margin:.3g}. The smallest "
            f"margin of all is {min(r.margin for r in findings):.2g}, the largest rounding allowance "
            f"{max(r.tolerance for r in findings):.0e}."
        )
    if result.never_applied:
        names = ", ".join(result.never_applied)
        lines.append(f"Never applied in this run, so neither confirmed nor violated: {names}.")
    else:
        lines.append("Every statement on the list applied somewhere in this run.")
    return lines


def _joint_story(episode: Episode) -> Iterator[str]:
    mean, log_ref, p = episode.mean, episode.ref.log_p, episode.rl[-1].log_p
    d, joint, tilt = mean.log_d, mean.joint_optimum(log_ref), mean.tilt(log_ref)
    loss, start = mean.ce(d, p), mean.ce(d, log_ref)
    yield (
        f"{episode.title}, lambda = {mean.weight:g}: it moved the reward from {mean.j(log_ref):.3f} to "
        f"{mean.j(p):.3f} and the SFT loss from {start:.3f} to {loss:.3f}. At the exact joint optimum "
        f"they are {mean.j(joint):.3f} and {mean.ce(d, joint):.3f} (J1), at the exact RL optimum "
        f"{mean.j(tilt):.3f} and {mean.ce(d, tilt):.3f}. The trained policy is "
        f"{mean.joint_gap(p, log_ref):.2g} below the best J_b - lambda CE that any schedule of SFT and RL can "
        "reach (J2)."
    )


def _ending_story(episode: Episode, ending: Ending) -> Iterator[str]:
    """Where it ended, and what it paid for its reward: against the least, and against the tilt."""
    mean, log_ref, p = episode.mean, episode.ref.log_p, episode.rl[-1].log_p
    reward, paid = mean.j(p), mean.kl(mean.log_d, p)
    yield (
        f"{episode.title}: it moved the reward from {mean.j(log_ref):.3f} to {reward:.3f} and the SFT loss from "
        f"{mean.ce(mean.log_d, log_ref):.3f} to {mean.ce(mean.log_d, p):.3f}. Predicted ({ending.name}, "
        f"{ending.statement}): reward {mean.j(ending.log_p):.3f}, SFT loss {mean.ce(mean.log_d, ending.log_p):.3f}; "
        f"the trained policy is {mean.kl(ending.log_p, p):.2g} nats away, KL(predicted||p)."
    )
    if reward <= mean.data_reward:
        yield f"{episode.title}: it bought no reward over the data's {mean.data_reward:.3f}."
        return
    least, own = mean.average_price(p), mean.overpaid(p)
    dear = _of_the_tilt(mean, reward, least)
    yield (
        f"For that reward it paid {paid:.3f} nats over the data's loss, {paid / least:.3f} times the least that any "
        f"policy with this average reward pays (S5); {dear}. Of the {paid - least:.3f} nats too much, {own:.3f} are "
        "paid at the prompts beyond the price of their own rewards (S9), the others by buying reward where it is "
        "dearer."
    )
    if episode.after:
        p2 = episode.after[-1].log_p
        yield (
            f"SFT after that brought the SFT loss to {mean.ce(mean.log_d, p2):.3f} (floor {mean.data_entropy:.3f}) and "
            f"the reward to {mean.j(p2):.3f} (the data's: {mean.data_reward:.3f})."
        )


def _of_the_tilt(mean: PromptMeans, reward: float, least: float) -> str:
    """What the tilt of the data pays for a reward, in times the least, or why there is none."""
    tilt = mean.tilt_with_reward(mean.log_d, reward)
    if tilt is None:
        return (
            "no tilt of the data has this reward, since all of them stay below "
            f"{mean.best_of_tilts(mean.log_d):.3f}, the best of what the data have"
        )
    times = mean.kl(mean.log_d, tilt) / least
    return f"the exact tilt with this reward pays {times:.3f} times the least"


def _story(episode: Episode) -> Iterator[str]:
    mean = episode.mean
    d, log_ref, p1 = mean.log_d, episode.ref.log_p, episode.rl[-1].log_p
    eps = mean.kl(d, log_ref)
    near = eps < NEAR_OPTIMAL
    kind = "near the optimum of SFT" if near else "away from the optimum of SFT"
    start, end = mean.ce(d, log_ref), mean.ce(d, p1)
    exact = mean.sft_loss_increase(log_ref)
    price = mean.price(d, p1) - eps
    listed = 1 - float(np.exp(log_ref[:, -1]).mean())
    raised = moved(mean.j(p1) - mean.j(log_ref), "the reward")
    words = f"RL {raised} and {moved(end - start, 'the SFT loss')}"
    if episode.after:
        p2 = episode.after[-1].log_p
        words += (
            f"; SFT afterwards {moved(mean.ce(d, p2) - end, 'the SFT loss')} and "
            f"{moved(mean.j(p2) - mean.j(p1), 'the reward')}"
        )
    yield f"{episode.title}: {words}."
    yield (
        f"RL started {kind} ({eps:.2g} nats from the data law, "
        f"{listed:.4g} of the mass on the listed responses). It moved the reward from "
        f"{mean.j(log_ref):.3f} to {mean.j(p1):.3f} and the SFT loss from {start:.3f} to {end:.3f}, a "
        f"change of {end - start:+.3f} nats per response. For the exact RL optimum the theorem "
        f"predicts {exact:+.3f} (S1); no policy with its reward at each prompt has less than {price:+.3f} (S7). "
        f"The trained policy is {mean.kl(p1, mean.tilt(log_ref)):.2g} nats from that optimum. RL to the "
        f"optimum has to raise the SFT loss from any ref within {mean.radius(log_ref):.2g} nats of the "
        f"data (S6); this ref is {'within' if eps < mean.radius(log_ref) else 'not within'}."
    )
    if episode.after:
        p2 = episode.after[-1].log_p
        lost, kept = mean.j(p1) - mean.j(p2), mean.jb(p1, log_ref) - mean.jb(p2, log_ref)
        target = mean.reward_drop(d, log_ref)
        yield (
            f"SFT after that RL brought the SFT loss to {mean.ce(d, p2):.3f} (floor "
            f"{mean.data_entropy:.3f}), changed the reward by {-lost:+.3f} (predicted for SFT from the exact "
            f"RL optimum to the data law: {-target:+.3f}, R2) and the regularised reward by {-kept:+.3f} (R8)."
        )


def moved(change: float, what: str) -> str:
    """What a change did, in words; none where the sentences would print it as zero."""
    if abs(change) < SHOWN / 2:
        return f"left {what} unchanged to three decimals"
    return f"{'raised' if change > 0 else 'lowered'} {what}"


def what_it_does_not_show(result: Digest) -> list[str]:
    """The limits of the run, in the report next to its findings."""
    prompts, responses = result.experts.reward.shape
    ended = [
        "The second chapter's ends are those of a trainer whose every response has its own logit, with the leash per "
        "response. A network shares parameters, and trainers mostly put the leash on tokens, which ends elsewhere "
        "(T3): how far a trained policy is from the predicted one is a measurement."
    ]
    return [
        *(ended if any(episode.ending for episode in result.episodes) else []),
        f"One model, one seed, {prompts} prompts, one value of beta: a check of the "
        "statements on a language model's own probabilities, not a survey of post-training.",
        f"Responses are {responses - 1} candidates per prompt and the atom 'other', which has constant reward. The "
        "statements are exact for that law; they say nothing about what happens inside 'other'.",
        "SFT used the data law itself and RL the exact gradient. Noise of sampled data and of sampled "
        "rollouts is absent; the sampled protocol has it.",
        "A trained policy is not the exact RL optimum. Rows marked 'exact optimum' are about the "
        "optimum computed from a trained ref; rows marked 'trained policy' are about training results.",
        "An identity that holds shows that the computation is right. It is no evidence about training.",
        "A comparison of predicted and observed numbers has no verdict: the predictions are for the "
        "exact optimum or the exact data law, and training stops short of both.",
        f"The landscape statements P1-P3 are vacuous here: their constants are the smallest "
        f"probability of a response, down to {result.smallest_p:.1e} in this run. They are not "
        "reported as confirmed.",
        "Not tested here: F1 (divergences are computed as sums of nonnegative terms), the claims that the "
        "library refutes (R5, R7), and statements not listed above.",
        f"Near SFT optimality means KL(d||ref) < {NEAR_OPTIMAL:g}; rows that need it are out of scope "
        "otherwise.",
    ]
