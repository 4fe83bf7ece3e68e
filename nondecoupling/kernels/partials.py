"""What is kept per token while the vocabulary goes by in parts, in float64, and how two parts become one.

A logsumexp is kept as an origin, near the largest logit, and the logarithm of the mass relative to it: in their sum
the mass would drown where logits are large (finfo.min everywhere is the uniform law).

The formulas have terms of one sign, so nothing cancels, and hold for parts without mass (masked tokens, logits of
-inf) and for logits whose difference is beyond any exponent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nondecoupling.kernels.reference import finite_base, phi

__all__ = ["NOTHING", "Divergence", "Mass"]

# A logit below its row's maximum by this much: e^NOTHING is 0 in every dtype, and so is its product with NOTHING.
NOTHING = -1e4


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

    def origin(self) -> Tensor:
        """[2, T]: m and log s, of which the logsumexp is the sum."""
        return torch.stack([self.maximum, self.mass.log()])

    def entropy(self) -> Tensor:
        return self.mass.log() + self.spread / self.mass


class Divergence:
    """Per token, for g = z_q - z_p under p: maximum of z_p, mass S, centre c, A = sum e_p phi(g - c).

    The logsumexp of z_q is ``origin_q`` + log ``mass_q``.

    c is the p-mean of g, so KL = log(1 + A / S) exactly, and A of a union is a sum of positive terms:
    moving a part to the common centre turns its A into e^d A + S phi(d), d being the old centre minus the new.

    A token that only one of the models has (the other's logit is -inf) has no place here: its tile, and with it the
    row, comes out as NaN.
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
        self.origin_q, self.mass_q = full(-torch.inf), full(0)

    def add(
        self,
        rows: slice,
        maximum: Tensor,
        mass: Tensor,
        centre: Tensor,
        excess: Tensor,
        origin_q: Tensor,
        mass_q: Tensor,
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
        new_q = torch.maximum(self.origin_q[rows], origin_q)
        base_q = finite_base(new_q)
        total_q = torch.zeros_like(new)
        old = (old_scale, old_mass, self.excess[rows], self.origin_q[rows], self.mass_q[rows])
        added = (scale, part_mass, excess, origin_q, mass_q)
        for (weight, part, part_excess, q_from, q_mass), d in (
            (old, -step * (part_mass / whole)),
            (added, step * (old_mass / whole)),
        ):
            grown = weight * part_excess * torch.exp(d) + part * phi(d)
            # Where p underflows in a part but q does not: the sum of e_q - e_p (1 + g - c) itself.
            direct = torch.exp(q_from - base - new_centre) * q_mass - part - part * d
            excess_total += torch.where((part == 0) | ~torch.isfinite(grown), direct, grown)
            total_q += torch.exp(q_from - base_q) * q_mass
        self.origin_q[rows], self.mass_q[rows] = new_q, total_q
        self.maximum[rows], self.mass[rows] = new, total
        self.centre[rows], self.excess[rows] = new_centre, excess_total

    def result(self) -> tuple[Tensor, Tensor]:
        """(kl [T], origins [4, T]): the maximum and log mass of p, and the origin and log mass of q."""
        kl = torch.log1p(self.excess / self.mass)
        logsumexp_p = self.maximum + self.mass.log()
        # Where the excess overflows; nowhere else, since the gap cancels.
        gap = self.origin_q + self.mass_q.log() - logsumexp_p - self.centre
        kl = torch.where(kl == torch.inf, gap, kl)
        return kl, torch.stack([self.maximum, self.mass.log(), self.origin_q, self.mass_q.log()])
