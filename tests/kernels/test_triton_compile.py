"""What the Triton launcher launches compiles for GPUs that are not here, and spills no registers.

Two hundred kernels take ten minutes: ``compile_kernels.py --write experiments/results/kernels`` compiles them, aligned
and odd inputs of every dtype, without flags and with all of them, and has to be run again where a kernel or Triton
changes. Here its table is held against today's sources, and some of its lines are compiled again (``-m slow``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compiled_from import compiled_from

pytest.importorskip("triton", reason="Triton is not installed: nothing can be compiled")
SCRIPT = Path(__file__).with_name("compile_kernels.py")
RESULTS = SCRIPT.parents[2] / "experiments" / "results" / "kernels"
Row = dict[str, Any]


def compile_kernels(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = SCRIPT.parents[2]
    here = [str(root), str(root / "experiments")]
    path = os.pathsep.join(filter(None, [*here, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
    )


def figures(folder: Path, *arguments: str) -> list[Row]:
    """Of kernels that were compiled now, all without spills."""
    done = compile_kernels("--write", str(folder), *arguments)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((folder / "compiled.json").read_text())["rows"]
    assert_all_fit(rows)
    return rows


def assert_all_fit(rows: list[Row]) -> None:
    assert all(row["spill_stores"] == row["spill_loads"] == 0 for row in rows)
    # The log was read, not merely empty.
    assert all(row["registers"] > 0 for row in rows)


PLAIN = ("--dtypes", "bf16", "--variants", "plain", "--architectures", "90", "--inputs", "aligned")


@pytest.mark.slow  # compiles kernels
def test_hopper_s_configurations_compile_without_spills(tmp_path):
    kernels = ("stats_forward", "stats_backward", "stats_finalise", "reduce_logits")
    rows = figures(tmp_path, "--kernels", *kernels, *PLAIN)
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


def test_the_committed_table_is_of_these_kernels():
    record = json.loads((RESULTS / "compiled.json").read_text())
    assert record["of"] == compiled_from(), (
        "kernels or Triton have changed: run "
        "python tests/kernels/compile_kernels.py --write experiments/results/kernels"
    )
    rows = record["rows"]
    assert_all_fit(rows)
    assert {row["architecture"] for row in rows} == {80, 90, 100}
    assert {row["dtype"] for row in rows} == {"bf16", "fp16", "fp32"}
    assert {row["inputs"] for row in rows} == {"TMA", "aligned", "odd"}
    lines = (RESULTS / "compiled.txt").read_text().splitlines()
    assert len(lines) == len(rows) + 2 and not any("does not fit" in line for line in lines)


@pytest.mark.slow  # compiles kernels
@pytest.mark.parametrize(
    "some",
    [
        ("stats_forward", "bf16", "aligned", "90"),
        ("stats_backward", "fp32", "odd", "80"),
        ("kl_forward", "fp16", "odd", "100"),
    ],
    ids="-".join,
)
def test_lines_of_the_committed_table_are_found_again(tmp_path, some):
    kernel, dtype, inputs, architecture = some
    options = ("--dtypes", dtype, "--inputs", inputs, "--architectures", architecture)
    rows = figures(tmp_path, "--kernels", kernel, *options)
    committed = json.loads((RESULTS / "compiled.json").read_text())["rows"]
    assert rows and all(row in committed for row in rows)


@pytest.mark.slow  # compiles kernels
def test_a_spilling_configuration_is_refused():
    """The gate can fail: in one slice, the softmax of 128 x 256 sums has too few registers with 8 warps."""
    done = compile_kernels("--kernels", "stats_forward", *PLAIN, "--override", "128,256,64,8,3,1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "<-- does not fit" in done.stdout
