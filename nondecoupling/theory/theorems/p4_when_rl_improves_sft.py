"""P4: When an RL step improves the SFT loss."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import kl_by_definition, log_softmax
from nondecoupling.formulas.logits import (
    after_step,
    alignment,
    centred_norm_squared,
    excess_that_raises,
    least_probability,
    sft_loss_after_step,
    sft_loss_gradient,
    squared_norm,
    step_change,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class WhenRlImprovesSft(Statement):
    """When an RL step improves the SFT loss.

    Statement: For every direction g and step eta > 0, L(theta + eta g) - L(theta) = KL(p_theta
        ||p_{theta + eta g}) - eta <d - p, g>: the step lowers the SFT loss iff eta <d - p, g>
        exceeds that KL, which is at most eta^2 ||g_c||^2/4. With rho = cos(d - p, g_c) > 0 it is
        enough that ||p - d|| > eta ||g_c||/(4 rho), or that L - L* > log(1 + (eta ||g_c||/(4
        rho))^2/min p). Conversely sqrt(L - L*) + sqrt(L(theta + eta g) - L*) >= eta ||g_c|| sqrt(m/2), m = min
        over y of min(d, p_theta, p_{theta + eta g}): if L - L* < m eta^2 ||g_c||^2/8 the step
        raises the loss.

    Assumptions: softmax logits, d of full support; the step points toward the data, <d - p, g> > 0
        (otherwise it raises the loss anyway).

    Side: identity, upper bounds on the change, lower bound.

    Equality when: curvature and converse: in the limit of small steps at the uniform law (converse:
        d halfway between start and end). Improvement: there too, if d is uniform on all responses
        but one and p on all.

    Units: nats.

    Source: ours; [NBHZ] v2 names such a threshold (arXiv:2601.07389, known here by its abstract).

    Proof idea: expand log-partition; P2 bounds the KL; P1 turns the gradient into excess loss;
        converse: P2 twice and the triangle inequality for centred logits.

    Example:
    >>> from nondecoupling.bounds import rl_improves_sft_threshold
    >>> import numpy as np
    >>> d, p, r = np.log([0.1, 0.9]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> change, raises_below, lowers_above = rl_improves_sft_threshold(d, p, r, 0.5)
    >>> round(float(change), 3), round(float(raises_below), 4), round(float(lowers_above), 4)
    (-0.169, 0.0016, 0.0155)
    """

    id = "P4"
    title = "When an RL step improves the SFT loss"
    depends = ("P1", "P2")
    world = dict(log_d=Law(full_support=True), theta=Logits(), direction=Logits(), step=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        log_p = log_softmax(xp, w.theta)
        change = sft_loss_after_step(xp, w.log_d, w.theta, w.direction, w.step)
        aligned = w.step * alignment(xp, w.log_d, log_p, w.direction)
        size = xp.square(w.step) * centred_norm_squared(xp, w.direction)
        yield Claim(
            "exact change", change, "==", step_change(xp, w.log_d, log_p, w.direction, w.step)
        )
        yield Claim("curvature of the step", change + aligned, "<=", size / 4)
        # eta <d - p, g> = rho ||p - d|| ||eta g_c||, and ||p - d||^2 >= min p (e^{L - L*} - 1) by P1
        excess = kl_by_definition(xp, w.log_d, log_p)
        gradient = squared_norm(xp, sft_loss_gradient(xp, log_p, w.log_d))
        share = xp.sqrt(least_probability(xp, log_p) * xp.expm1(excess) / gradient)
        improvement = aligned * share
        yield Claim("improvement from excess loss", size / 4 - change, ">=", improvement)
        after = after_step(xp, log_p, w.direction, w.step)
        excess_after = kl_by_definition(xp, w.log_d, after)
        raises_below = excess_that_raises(xp, w.log_d, log_p, w.direction, w.step)
        # sqrt(8 m/8 size)/2 = sqrt(m size/2)
        total = xp.sqrt(excess) + xp.sqrt(excess_after)
        yield Claim("triangle of excess losses", total, ">=", 2 * xp.sqrt(raises_below))

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        aligned = alignment(xp, w.log_d, log_softmax(xp, w.theta), w.direction)
        yield Claim("the step points to the data", aligned, ">", xp.full_like(aligned, 0.0))
