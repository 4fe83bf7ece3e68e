"""Recipes need nothing beyond the core; what holds them against TRL is collected where TRL is installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("trl") else ["test_against_trl.py"]
