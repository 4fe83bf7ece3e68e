"""The pages of forecast and monitor on a phone: as wide as its screen, with labels that can be read."""

from __future__ import annotations

import numpy as np
import pytest

from nondecoupling.forecast import Samples, forecast
from nondecoupling.monitor import CouplingMonitor
from nondecoupling.monitor.page import html

pytest.importorskip("selenium", reason="the browser needs it: make setup")
from tests.browser import PHONE, browser  # imports selenium

pytestmark = pytest.mark.slow  # a browser

# Of letters and digits in the smallest labels, in pixels of the screen: those of 9 px type.
LEAST_HEIGHT = 6.5
HEIGHTS = """return [...document.querySelectorAll("svg g[id^=text_]")].map(
    label => label.getBoundingClientRect().height * visualViewport.scale)"""
LAID_OUT = "return [innerWidth, visualViewport.scale, document.documentElement.scrollWidth]"


@pytest.fixture(scope="module")
def phone():
    with browser(phone=True) as driver:
        yield driver


@pytest.fixture(scope="module")
def samples():
    rewards = np.random.default_rng(0).random((40, 16)) < 0.4
    return Samples(rewards, reward_bounds=(0, 1))


def page_of_forecast(samples):
    plan = forecast(samples, betas=[1.0], targets=[0.6])
    return plan.html(plan.recommend(loss_budget=0.2), run=[(0.5, 0.1)])


def page_of_monitor(samples):
    return html(CouplingMonitor(samples))


@pytest.mark.parametrize("page_of", [page_of_forecast, page_of_monitor])
def test_a_page_fits_and_its_labels_can_be_read(phone, samples, page_of, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(page_of(samples), encoding="utf-8")
    phone.get(page.as_uri())
    assert phone.execute_script(LAID_OUT) == [PHONE["width"], 1, PHONE["width"]]
    heights = phone.execute_script(HEIGHTS)
    assert len(heights) > 10 and min(heights) >= LEAST_HEIGHT
