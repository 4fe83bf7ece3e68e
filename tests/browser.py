"""A headless Chromium that opens a file and says what a reader would see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROGRAMS = ("chromium", "google-chrome"), ("chromedriver",)
# Nothing may be fetched; without these flags Chromium looks for updates and accounts.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1600",
)
IMAGES = """return [...document.images].map(i => ({
    alt: i.alt, loaded: i.complete && i.naturalWidth > 0, width: i.getBoundingClientRect().width,
    height: i.getBoundingClientRect().height}))"""


# Wide screens hide what a narrow window of theirs does not show: only a phone lays out a page anew.
PHONE = {"width": 390, "height": 844, "pixelRatio": 2.0, "mobile": True}


@contextmanager
def browser(*, phone: bool = False) -> Iterator[Any]:
    chromium, driver = (next(filter(None, map(shutil.which, names)), None) for names in PROGRAMS)
    if not chromium or not driver:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in OPTIONS:
        options.add_argument(option)
    if phone:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": PHONE})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


def problems(driver: Any, page: Path, first: str = "") -> list[str]:
    """What is wrong with a page opened from its path: console errors, images that are missing or invisible.

    ``first`` is a script that runs before anything is looked at.
    """
    driver.get(page.resolve().as_uri())
    driver.execute_script(first)
    found = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    images = driver.execute_script(IMAGES)
    if not images:
        found.append("no image on the page")
    for image in images:
        if not image["loaded"] or image["width"] < 200 or image["height"] < 100:
            found.append(f"image {image['alt']!r} is not visible: {image}")
    return found
