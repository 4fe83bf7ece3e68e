"""Recipes need nothing beyond the core; what holds them against TRL needs TRL."""

import pytest


def pytest_ignore_collect(collection_path):
    """Without TRL the comparison with it is not collected."""
    if collection_path.name == "test_against_trl.py":
        try:
            import trl  # noqa: F401
        except ImportError:
            return True
    return None


@pytest.fixture(scope="session")
def quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()
