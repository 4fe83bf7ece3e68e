"""The public functions of ``bounds``: what tests that go through all of them go through."""

from __future__ import annotations

import inspect

from nondecoupling import bounds

# ``unchecked`` takes one of them and returns it.
PUBLIC = sorted(
    name
    for name in bounds.__all__
    if inspect.isfunction(getattr(bounds, name)) and name != "unchecked"
)
