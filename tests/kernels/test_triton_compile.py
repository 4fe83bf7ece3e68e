"""What the Triton launcher launches compiles for GPUs that are not here, and spills no registers.

``-m slow`` compiles every dtype without flags and with all of them, for aligned and odd inputs, for all three (some ten
minutes on two cores; ``compile_kernels.py --variants every`` does every set of flags). The default is bfloat16 without
flags for sm_90. With TRITON_36 set to a folder that holds triton 3.6 (``pip install --no-deps --target``), the slow
test runs under that too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: nothing can be compiled")
SCRIPT = Path(__file__).with_name("compile_kernels.py")


def compile_kernels(*arguments: str, triton: str = "") -> subprocess.CompletedProcess[str]:
    root = SCRIPT.parents[2]
    here = [str(root), str(root / "experiments")]
    path = os.pathsep.join(filter(None, [triton, *here, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
    )


def assert_all_fit(report: Path, *arguments: str, triton: str = "") -> list[dict[str, object]]:
    done = compile_kernels("--json", str(report), *arguments, triton=triton)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(report.read_text())
    assert all(row["spill_stores"] == row["spill_loads"] == 0 for row in rows)
    # The log was read, not merely empty.
    assert all(row["registers"] > 0 for row in rows)
    return rows


PLAIN = ("--dtypes", "bf16", "--variants", "plain", "--architectures", "90", "--inputs", "aligned")


@pytest.mark.slow  # compiles kernels
def test_hopper_s_configurations_compile_without_spills(tmp_path):
    kernels = ("stats_forward", "stats_backward", "stats_finalise", "reduce_logits")
    rows = assert_all_fit(tmp_path / "rows.json", "--kernels", *kernels, *PLAIN)
    assert {row["kernel"]: row["inputs"] for row in rows} == {
        "stats_forward": "TMA",
        "stats_backward": "TMA",
        "stats_finalise": "aligned",
        "reduce_logits": "aligned",
    }
    assert all(row["tensor_cores"] == "wgmma" for row in rows if row["inputs"] == "TMA")
    # At least a maximum, a difference, an exponential and a sum; only kernels with a product have the figure.
    counted = {row["kernel"]: row["per_logit"] for row in rows if row["per_logit"] is not None}
    assert set(counted) == {"stats_forward", "stats_backward"}
    assert all(4 < count < 100 for count in counted.values())


@pytest.mark.slow  # two hundred kernels
@pytest.mark.parametrize("triton", ["", os.environ.get("TRITON_36")], ids=["installed", "3.6"])
def test_every_dtype_compiles_without_spills(tmp_path, triton):
    if triton is None:
        pytest.skip("TRITON_36 names no folder with triton 3.6")
    rows = assert_all_fit(tmp_path / "rows.json", triton=triton)
    assert {row["architecture"] for row in rows} == {80, 90, 100}
    assert {row["dtype"] for row in rows} == {"bf16", "fp16", "fp32"}
    assert {row["inputs"] for row in rows} == {"TMA", "aligned", "odd"}


@pytest.mark.slow  # compiles kernels
def test_a_spilling_configuration_is_refused():
    """The gate can fail: in one slice, the softmax of 128 x 256 sums has too few registers with 8 warps."""
    done = compile_kernels("--kernels", "stats_forward", *PLAIN, "--override", "128,256,64,8,3,1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "<-- does not fit" in done.stdout
