"""What is kept per token while the vocabulary goes by in parts, in float64, and how two parts become one.

The formulas have terms of one sign, so nothing cancels, and hold for parts without mass (masked tokens, logits of
-inf) and for logits whose difference is beyond any exponent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nondecoupling.kernels.reference import phi

__all__ = ["NOTHING", "Divergence", "Mass", "finite_base"]

# A logit below its row's maximum by this much: e^NOTHING is 0 in every dtype, and so is its product with NOTHING.
NOTHING = -1e4


def finite_base(maximum: Tensor) -> Tensor:
    """``maximum``, or 0 where it is -inf: what logits may be taken relative to."""
    return maximum.masked_fill(maximum == -torch.inf, 0)


class Mass:
    """Per token: maximum m, s = sum e^(z - m), a = sum e^(z - m) (m - z) over the logits seen so far."""

    def __init__(self, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.maximum = torch.full((tokens,), -torch.inf, dtype=dtype, device=device)
        self.mass = torch.zeros(tokens, dtype=dtype, device=device)
        self.spread = torch.zeros(tokens, dtype=dtype, device=device)

    def add(self, rows: slice, maximum: Tensor, mass: Tensor, spread: Tensor) -> None:
        """Merge other logits of ``rows``; a maximum of -inf with mass 0 adds nothing."""
        new = torch.maximum(self.maximum[rows], maximum)
        base = finite_base(new)
        total = torch.zeros_like(new)
        total_spread = torch.zeros_like(new)
        for m, s, a in (
            (self.maximum[rows], self.mass[rows], self.spread[rows]),
            (maximum, mass, spread),
        ):
            fall = (base - m).clamp(max=-NOTHING)
            scale = torch.exp(-fall)
            total += scale * s
            total_spread += scale * (a + fall * s)
        self.maximum[rows], self.mass[rows], self.spread[rows] = new, total, total_spread

    def logsumexp(self) -> Tensor:
        return self.maximum + self.mass.log()

    def entropy(self) -> Tensor:
        return self.mass.log() + self.spread / self.mass


class Divergence:
    """Per token, for g = z_q - z_p under p: maximum of z_p, mass S, centre c, A = sum e_p phi(g - c), L_q.

    c is the p-mean of g, so KL = log(1 + A / S) exactly, and A of a union is a sum of positive terms:
    moving a part to the common centre turns its A into e^d A + S phi(d), d being the old centre minus the new.

    A token that q lacks (z_q = -inf) takes no part in c and A; the largest z_p among those is kept as ``lacked``, and
    the divergence is infinite if p, once its logsumexp is known, has mass there.
    """

    def __init__(self, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        def full(value: float) -> Tensor:
            return torch.full((tokens,), value, dtype=dtype, device=device)

        self.maximum, self.mass, self.centre, self.excess = (
            full(-torch.inf),
            full(0),
            full(0),
            full(0),
        )
        self.logsumexp_q, self.lacked = full(-torch.inf), full(-torch.inf)

    def add(
        self,
        rows: slice,
        maximum: Tensor,
        mass: Tensor,
        centre: Tensor,
        excess: Tensor,
        logsumexp_q: Tensor,
        lacked: Tensor | None = None,
    ) -> None:
        """Merge another part of ``rows``; one in which p has no mass has a maximum of -inf and any finite centre."""
        new = torch.maximum(self.maximum[rows], maximum)
        base = finite_base(new)
        old_scale = torch.exp(self.maximum[rows] - base)
        scale = torch.exp(maximum - base)
        old_mass = old_scale * self.mass[rows]
        part_mass = scale * mass
        total = old_mass + part_mass
        # Without mass in either part there is no centre to find.
        whole = torch.where(total == 0, 1, total)
        step = centre - self.centre[rows]
        new_centre = self.centre[rows] + step * (part_mass / whole)
        excess_total = torch.zeros_like(new)
        for weight, part, part_excess, part_q, d in (
            (
                old_scale,
                old_mass,
                self.excess[rows],
                self.logsumexp_q[rows],
                -step * (part_mass / whole),
            ),
            (scale, part_mass, excess, logsumexp_q, step * (old_mass / whole)),
        ):
            grown = weight * part_excess * torch.exp(d) + part * phi(d)
            # Where p underflows in a part but q does not: the sum of e_q - e_p (1 + g - c) itself.
            direct = torch.exp(part_q - base - new_centre) - part - part * d
            excess_total += torch.where((part == 0) | ~torch.isfinite(grown), direct, grown)
        self.logsumexp_q[rows] = torch.logaddexp(self.logsumexp_q[rows], logsumexp_q)
        self.maximum[rows], self.mass[rows] = new, total
        self.centre[rows], self.excess[rows] = new_centre, excess_total
        if lacked is not None:
            self.lacked[rows] = torch.maximum(self.lacked[rows], lacked)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """(kl, logsumexp_p, logsumexp_q)."""
        logsumexp_p = self.maximum + self.mass.log()
        small = torch.log1p(self.excess / self.mass)
        gap = self.logsumexp_q - logsumexp_p - self.centre
        # The gap form cancels when small; the other may overflow when large. Both are good around 1/4.
        kl = torch.where(small < 0.25, small, gap)
        kl = torch.where(torch.exp(self.lacked - logsumexp_p) > 0, torch.inf, kl)
        # Logits that are all -inf are no law.
        lawless = (logsumexp_p == -torch.inf) | (self.logsumexp_q == -torch.inf)
        return torch.where(lawless, torch.nan, kl), logsumexp_p, self.logsumexp_q
