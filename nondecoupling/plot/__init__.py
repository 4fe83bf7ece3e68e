"""Plots of SFT loss (vertical, in nats) against reward (horizontal), in matplotlib: extra ``plot``.

frontier    the least SFT loss of any policy for each reward (S5): nothing lies below
tilt_path   where KL-regularised RL ends as beta falls (S2, S4)
recipes     where trainers end as their beta falls, a dot at the beta that each has (T2-T4, T11)
policies    policies of your own in the same plane, as dots or as a line
simplex     three responses: the tilt, the KL ball, and the line on which SFT leaves the reward alone (R3, R5)

Each draws on the axes that it is given (``ax=``) or on new ones, and returns them. Curves differ in line style as
well as in colour (Okabe and Ito's). The rest serves figures that do not lie in this plane: ``subplots`` makes
one, ``in_style`` sets fonts and lines, ``svg`` gives a figure as text, the same bytes for the same numbers.

>>> import numpy as np
>>> from nondecoupling import plot
>>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
>>> ax = plot.frontier(d, r)
>>> ax = plot.tilt_path(d, r, beta=0.6, ax=ax)
>>> ax.get_xlabel(), ax.get_ylabel()
('expected reward J(p)', 'SFT loss CE(d, p), nats per response')
>>> ax.figure.savefig("trade-off.svg")  # doctest: +SKIP
"""

from nondecoupling.plot.plane import frontier, policies, recipes, tilt_path
from nondecoupling.plot.simplices import simplex
from nondecoupling.plot.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    in_style,
    line,
    subplots,
    svg,
)

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "frontier",
    "in_style",
    "line",
    "policies",
    "recipes",
    "simplex",
    "subplots",
    "svg",
    "tilt_path",
]
