"""What every number system offers to the formulas: the primitives, listed once.

A formula is written once as ``f(xp, ...)``. ``xp`` is one of

* ``floats_of(array)``: NumPy or torch, batched, differentiable in torch;
* ``roundoff.ROUNDOFF``: float64 values that carry a bound on their own error;
* ``arb()``: arrays of Arb balls; every result encloses the true value;
* ``sympy_numbers()``: arrays of sympy expressions;
* ``jets.Recorder().numbers()``: a graph that is replayed on balls with their derivatives.

Arrays have the responses on the last axis and per-world scalars keep that axis with length one,
so nothing ever collapses to a 0-d array.
"""

from __future__ import annotations

from typing import Any

Array = Any


NumberSystem = Any  # Floats, Exact or roundoff.RoundOff: they share the methods, not a base class
