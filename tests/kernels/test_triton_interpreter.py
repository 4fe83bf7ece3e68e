"""The Triton kernels under Triton's interpreter, in a process of their own.

``TRITON_INTERPRET`` must be set before Triton is imported. The inner run is pytest on the very tests that the
chunked path passes, plus ``interpreted_launch.py``; its results are read from its report, not from its exit code
alone, and fewer tests than expected is a failure.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: the kernels cannot be interpreted")
HERE = Path(__file__).parent
SHARED = (
    "test_token_stats.py",
    "test_token_kl.py",
    "test_extreme_logits.py",
    "interpreted_launch.py",
)


def run_interpreted(report: Path, *arguments: str) -> dict[str, int]:
    """Run pytest under the interpreter; raise unless every collected test passed.

    Raises:
        AssertionError: a failure, an error, a skip, or nothing collected; carries the inner output.
    """
    environment = dict(
        os.environ,
        TRITON_INTERPRET="1",
        NONDECOUPLING_KERNEL_UNDER_TEST="triton",
        OMP_NUM_THREADS="1",
    )
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *arguments],
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert report.exists(), output
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None, output
    counts = {
        name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    }
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    assert done.returncode == 0, output
    assert passed == counts["tests"] > 0, output
    return {**counts, "passed": passed}


@pytest.mark.slow  # minutes in Triton's interpreter
def test_every_shared_test_passes_under_the_interpreter(tmp_path, record_property):
    counts = run_interpreted(tmp_path / "report.xml", *(str(HERE / name) for name in SHARED))
    record_property("interpreted", counts["passed"])
    print(f"{counts['passed']} tests passed under Triton's interpreter")
    # What the files hold today; more is fine, fewer means that some were not collected.
    assert counts["passed"] >= 470


@pytest.mark.slow  # several processes
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def test_wrong():\n    assert 1 == 2\n", "assert 1 == 2"),
        ("import pytest\ndef test_skipped():\n    pytest.skip('no GPU')\n", "1 skipped"),
        ("", "no tests ran"),
        ("import no_such_module\n", "no_such_module"),
    ],
)
def test_an_inner_run_that_does_not_pass_fails_here(tmp_path, body, reason):
    inner = tmp_path / "test_inner.py"
    inner.write_text(body)
    with pytest.raises(AssertionError, match=reason):
        run_interpreted(tmp_path / "report.xml", str(inner), f"--rootdir={tmp_path}")
