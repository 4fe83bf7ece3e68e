"""What the Triton launcher launches compiles for GPUs that are not here, and spills no registers.

Two hundred kernels take ten minutes: ``compile_kernels.py --write experiments/results/kernels`` compiles them, aligned
and odd inputs of every dtype, without flags and with all of them, and has to be run again where a kernel or Triton
changes. Here its table is held against today's sources, and some of its lines are compiled again (``-m slow``).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from compiled_from import FACE, KERNELS, SOURCES, digests

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


OTHER = "triton-3.6"  # of torch 2.11; also the folder of its table


@pytest.fixture(scope="module")
def committed():
    return json.loads((RESULTS / "compiled.json").read_text())


@pytest.fixture(scope="module", params=["", OTHER])
def folder(request):
    return RESULTS / request.param


@pytest.fixture(scope="module")
def table(folder):
    """Of the pinned Triton, and of the other one."""
    return json.loads((folder / "compiled.json").read_text())


def test_the_committed_tables_are_of_these_kernels(table, folder):
    assert table["sources"] == digests(), (
        "nondecoupling/kernels has changed: run python tests/kernels/compile_kernels.py "
        f"--write {folder.relative_to(SCRIPT.parents[2])} with triton {table['triton']}"
    )


def test_the_other_table_is_of_another_triton(committed):
    other = json.loads((RESULTS / OTHER / "compiled.json").read_text())
    assert other["triton"].startswith(OTHER.removeprefix("triton-"))
    assert other["options"] == committed["options"] and other["rows"] != committed["rows"]


def test_the_committed_table_is_of_the_triton_that_ci_installs(committed):
    pinned = (SCRIPT.parents[2] / "constraints.txt").read_text().split()
    assert f"triton=={committed['triton']}" in pinned


def test_any_change_of_a_kernel_is_seen(tmp_path):
    copies = [Path(shutil.copy(path, tmp_path)) for path in SOURCES]
    assert digests(copies) == digests()
    for copy in copies:
        before = copy.read_bytes()
        copy.write_bytes(before.replace(b"import", b"import ", 1))
        assert digests(copies) != digests(), copy.name
        copy.write_bytes(before)


def test_what_is_left_out_of_the_digests_is_not_launched():
    """No module below the public face imports it."""
    for path in SOURCES:
        if path.parent == KERNELS:
            imported = re.findall(r"^\s*(?:from|import) .*", path.read_text(), re.MULTILINE)
            named = {word for line in imported for word in re.findall(r"\w+", line)}
            assert not named & set(FACE), path.name
    assert "triton_launch" in (KERNELS / "operators.py").read_text()  # the other way round


@pytest.mark.parametrize("triton", (".", OTHER))
def test_no_kernel_spills(triton):
    rows = json.loads((RESULTS / triton / "compiled.json").read_text())["rows"]
    assert_all_fit(rows)
    text = (RESULTS / triton / "compiled.txt").read_text()
    assert "does not fit" not in text and len(text.splitlines()) > len(rows)
    assert f"all {len(rows)} spill nothing" in (SCRIPT.parents[2] / "docs/kernels.md").read_text()


def test_the_committed_tables_have_every_kernel(table):
    options, rows = table["options"], table["rows"]
    assert options["variants"] == "ends" and options["override"] is None
    seen = {
        name: {row[name] for row in rows} for name in ("architecture", "dtype", "inputs", "kernel")
    }
    assert seen == {
        "architecture": {80, 90, 100},
        "dtype": {"bf16", "fp16", "fp32"},
        "inputs": {"TMA", "aligned", "odd"},
        "kernel": set(options["kernels"]),
    }
    assert len(seen["kernel"]) == 7
    assert {row["variant"] for row in rows} == {
        "plain",
        "one-head",
        "bias+softcap+exclude",
        "bias+softcap+one-head",
    }


def test_the_text_says_what_the_figures_say(table, folder):
    compiler, _, *lines = (folder / "compiled.txt").read_text().splitlines()
    assert compiler == f"triton {table['triton']}"
    for line, row in zip(lines, table["rows"], strict=True):
        names = ("kernel", "dtype", "variant", "inputs", "tile", "architecture", "registers")
        said = " ".join(str(row[name]) for name in names).split()
        assert line.split()[: len(said)] == said


@pytest.mark.slow  # compiles kernels
@pytest.mark.parametrize(
    "some",
    [
        ("stats_forward", "bf16", "aligned", 90),
        ("stats_backward", "fp32", "odd", 80),
        ("kl_forward", "fp16", "odd", 100),
        ("kl_backward", "fp16", "aligned", 90),
        ("accumulate", "fp16", "odd", 80),
    ],
    ids=lambda some: "-".join(map(str, some)),
)
def test_lines_of_the_committed_table_are_found_again(tmp_path, committed, some):
    if version("triton") != committed["triton"]:
        pytest.skip(
            f"the table is of triton {committed['triton']}, and {version('triton')} is installed"
        )
    kernel, dtype, inputs, architecture = some
    options = ("--dtypes", dtype, "--inputs", inputs, "--architectures", str(architecture))
    kinds = {inputs, "TMA"} if inputs == "aligned" else {inputs}
    wanted = [
        row
        for row in committed["rows"]
        if (row["kernel"], row["dtype"], row["architecture"]) == (kernel, dtype, architecture)
        and row["inputs"] in kinds
    ]
    assert wanted and figures(tmp_path, "--kernels", kernel, *options) == wanted


@pytest.mark.slow  # compiles kernels
def test_a_spilling_configuration_is_refused():
    """The gate can fail: in one slice, the softmax of 128 x 256 sums has too few registers with 8 warps."""
    done = compile_kernels("--kernels", "stats_forward", *PLAIN, "--override", "128,256,64,8,3,1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "<-- does not fit" in done.stdout
