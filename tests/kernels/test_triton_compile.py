"""The shipped Triton configurations compile for GPUs that are not here, and spill no registers.

``-m slow`` compiles every dtype with every set of flags for all three (about five minutes on two cores). The default is
bfloat16 without flags, and with all of them for sm_90.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: nothing can be compiled")
SCRIPT = Path(__file__).with_name("compile_kernels.py")


def compile_kernels(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(SCRIPT.parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
    )


def assert_all_fit(report: Path, *arguments: str) -> list[dict[str, object]]:
    done = compile_kernels("--json", str(report), *arguments)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(report.read_text())
    assert all(row["spill_stores"] == row["spill_loads"] == 0 for row in rows)
    # The log was read, not merely empty.
    assert all(row["registers"] > 0 for row in rows)
    return rows


@pytest.mark.parametrize(
    ("variants", "architectures"), [("plain", ("80", "100")), ("ends", ("90",))]
)
def test_bfloat16_configurations_compile_without_spills(tmp_path, variants, architectures):
    rows = assert_all_fit(
        tmp_path / "rows.json",
        *("--dtypes", "bf16", "--variants", variants, "--architectures", *architectures),
    )
    assert len({(row["kernel"], row["architecture"]) for row in rows}) == 5 * len(architectures)
    assert len(rows) == 10


@pytest.mark.slow
def test_every_dtype_and_every_flag_compiles_without_spills(tmp_path):
    rows = assert_all_fit(tmp_path / "rows.json", "--variants", "every")
    assert {row["architecture"] for row in rows} == {80, 90, 100}
    assert len(rows) == 3 * 3 * (8 + 8 + 4 + 4 + 2)


def test_a_spilling_configuration_is_refused():
    """The gate can fail: with 128 x 256 sums in float32, 8 warps have too few registers for the softmax."""
    done = compile_kernels(
        *("--kernels", "stats_forward", "--dtypes", "bf16", "--architectures", "90"),
        *("--variants", "plain", "--override", "128,256,32,8,3"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "<-- does not fit" in done.stdout
