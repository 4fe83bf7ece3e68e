"""Verified statements about the non-decoupling of SFT and RL in LLM post-training.

``nondecoupling.bounds`` is the numeric API, ``nondecoupling.catalog`` lists the statements,
``nondecoupling.ledger`` says how far each one is assured.
"""

__version__ = "0.1.0"
