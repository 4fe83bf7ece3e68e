"""A trainer as a value: what decides where RL with it ends. ``bounds.stationary_policy`` says where.

recipe      ``Recipe``: advantage, leash, bonus, noise, and what the theory leaves out
trl         what each option of TRL's GRPO and RLOO trainers is in it
arguments   numbers as callers give them, as Python's own

>>> from nondecoupling.recipes import Recipe
>>> Recipe("group-mean", "k3-in-loss", beta=0.04, group_size=8).holds
'forward'
"""

from nondecoupling.formulas.recipes import Leash
from nondecoupling.recipes.recipe import Advantage, Recipe
from nondecoupling.recipes.trl import Outside

__all__ = ["Advantage", "Leash", "Outside", "Recipe"]
