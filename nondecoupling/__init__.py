"""Verified statements about the non-decoupling of SFT and RL in LLM post-training.

``nondecoupling.bounds`` is the numeric API, ``nondecoupling.theory.catalog`` lists the statements,
``nondecoupling.theory.ledger`` says how far each one is assured.
"""

__version__ = "0.2.0"
