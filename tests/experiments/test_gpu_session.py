"""The GPU session: rows that survive, cases that die, the table, and a rehearsal of the whole at a tiny size.

No GPU is needed. The numbers in this file are made up; none of them was measured.
"""

import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks.gpu_session import __main__ as step  # noqa: E402
from benchmarks.gpu_session import build, rivals, smoke, sweep, table, training  # noqa: E402
from benchmarks.gpu_session.cases import FAILED, Case, run_here, supervise  # noqa: E402
from benchmarks.gpu_session.problem import FULL, TINY, HeadProblem  # noqa: E402
from benchmarks.gpu_session.record import RowFile, read_rows  # noqa: E402

from nondecoupling.kernels import triton_configurations as configurations  # noqa: E402
from nondecoupling.lm.errors import ModelError  # noqa: E402

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/benchmarks/gpu_session.sh"


def run_script(out: Path, steps: str, **environment: str) -> int:
    """The script's exit code, of ``steps`` alone."""
    given = {"SESSION_PYTHON": sys.executable, "SESSION_STEPS": steps, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(SCRIPT), str(out), str(out.parent / "wheels")]
    return subprocess.run(command, env=os.environ | given | environment, check=False).returncode


# A child as ``supervise`` starts it: its second case ends the process, its third hangs.
CHILD = """
import os, sys, time
from pathlib import Path
from benchmarks.gpu_session.cases import Case, run_here
from benchmarks.gpu_session.record import RowFile

def fine(): yield {"ms": 1.0}
def dies(): os._exit(66); yield {}
def hangs(): time.sleep(60); yield {}
def wrong():
    yield {"ms": 2.0}
    raise ArithmeticError("off by a mile")

cases = [Case("fine", fine), Case("dies", dies), Case("hangs", hangs, 0.3), Case("wrong", wrong),
         Case("last", fine)]
skip = [word for word in sys.argv[2:] if word != "--skip"]
sys.exit(run_here(cases, RowFile(Path(sys.argv[1]), "made up"), skip))
"""


def test_a_case_that_dies_hangs_or_fails_costs_only_itself(tmp_path):
    rows = RowFile(tmp_path / "rows.jsonl", "made up")
    child = tmp_path / "child.py"
    child.write_text(
        CHILD.replace(
            "import os, sys, time", f"import sys; sys.path += {sys.path}\nimport os, time"
        )
    )
    supervise([sys.executable, str(child), str(rows.path)], rows, time.time() + 30)
    found, spoilt = read_rows(rows.path)
    assert spoilt == 0
    finished = [row["case"] for row in found if row["kind"] == "finished"]
    failed = {row["case"]: row["why"] for row in found if row["kind"] == "failed"}
    assert finished == ["fine", "last"]
    assert failed == {
        "dies": "exit code 66",
        "hangs": "over 0.3 s",
        "wrong": "ArithmeticError: off by a mile",
    }
    # What a failed case had found by then is kept.
    assert [row["ms"] for row in found if row["kind"] == "row"] == [1.0, 2.0, 1.0]


def test_the_end_of_a_step_is_kept(tmp_path):
    rows = RowFile(tmp_path / "rows.jsonl", "made up")
    begun = time.time()
    supervise([sys.executable, "-c", "import time; time.sleep(60)"], rows, begun + 0.3)
    assert time.time() - begun < 10
    assert [row["kind"] for row in read_rows(rows.path)[0]] == ["out of time"]
    # A child that never gets to a case is not started for ever.
    supervise([sys.executable, "-c", "raise SystemExit(5)"], rows, time.time() + 30)
    assert read_rows(rows.path)[0][-1]["why"] == "the step did not start: exit code 5"


# A child whose case leaves a process of its own behind, and hangs.
PARENT = """
import subprocess, sys, time
from pathlib import Path
from benchmarks.gpu_session.record import RowFile
if "--skip" in sys.argv:
    sys.exit()
folder = Path(sys.argv[1])
RowFile(folder / "rows.jsonl", "smoke").write("started", case="hangs", limit=float(sys.argv[2]))
left = subprocess.Popen(["sleep", "60"])
(folder / "unfinished").write_text(str(left.pid))
(folder / "unfinished").rename(folder / "left")
time.sleep(60)
"""


def runs(process: int) -> bool:
    """Whether it does; one that has ended may wait for whoever adopted it to look."""
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(process: int) -> bool:
    """Whether it does, soon."""
    until = time.monotonic() + 5
    while runs(process) and time.monotonic() < until:
        time.sleep(0.01)
    return not runs(process)


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc"
)
def test_what_a_killed_case_has_started_ends_with_it(tmp_path):
    rows = RowFile(tmp_path / "rows.jsonl", "smoke")
    script = f"import sys; sys.path[:0] = [{str(ROOT / 'experiments')!r}]\n{PARENT}"
    supervise([sys.executable, "-c", script, str(tmp_path), "0.2"], rows, time.time() + 20)
    assert ends(int((tmp_path / "left").read_text()))


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc"
)
def test_a_step_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    # The step as the script starts it, but for the child's command.
    script = f"""
import sys
sys.path[:0] = [{str(ROOT / "experiments")!r}]
import benchmarks.gpu_session.__main__ as main
script = "import sys; sys.path[:0] = " + repr(sys.path) + {PARENT!r}
main.python_module = lambda *_: [sys.executable, "-c", script, {str(tmp_path)!r}, "30"]
sys.argv[1:] = ["smoke", "--rows", {str(tmp_path / "rows.jsonl")!r}]
main.main()
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        until = time.monotonic() + 20
        while not (tmp_path / "left").exists() and time.monotonic() < until:
            time.sleep(0.01)
        left = int((tmp_path / "left").read_text())
        assert runs(left)
        process.terminate()
        assert process.wait(10) == 128 + 15
        assert ends(left)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("written", [False, True])
def test_the_first_step_that_can_writes_down_the_machine(tmp_path, monkeypatch, written):
    rows = RowFile(tmp_path / "rows.jsonl", "sweep")
    if written:
        rows.write("row", case="machine", device="a made-up GPU")
    monkeypatch.setattr(smoke, "cases", lambda sizes: [])
    monkeypatch.setattr("sys.argv", ["", "smoke", "--child", "--rows", str(rows.path)])
    assert step.main() == 0
    found = [row["step"] for row in read_rows(rows.path)[0] if row["kind"] == "row"]
    assert found == (["sweep"] if written else ["smoke"])


def test_a_session_in_the_folder_of_another_starts_anew_and_says_so(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "rows.jsonl").write_text('{"step": "smoke", "kind": "started", "case": "a"}\n')
    assert run_script(out, "none") == 0
    (before,) = out.glob("rows.before-*.jsonl")
    assert '"case": "a"' in before.read_text()
    rows = read_rows(out / "rows.jsonl")[0]
    assert [row["kind"] for row in rows] == ["anew", "ended"]
    assert f"session: earlier rows are in {before.name}" in (out / "table.md").read_text()


def test_a_case_that_an_earlier_call_has_started_is_skipped_in_a_row(tmp_path):
    rows = RowFile(tmp_path / "rows.jsonl", "made up")
    rows.write("started", case="a", limit=1.0)
    rows.write("finished", case="a")
    child = [sys.executable, "-S", "-c", "pass"]
    supervise(child, rows, time.time() + 30)
    found = read_rows(rows.path)[0]
    assert found[-1]["kind"] == "skipped" and found[-1]["cases"] == ["a"]
    assert "- made up: a not run: started by an earlier call" in table.render(found)


def test_half_a_line_spoils_no_other(tmp_path):
    rows = RowFile(tmp_path / "rows.jsonl", "made up")
    rows.write("row", case="a", ms=1.0)
    with rows.path.open("a") as file:
        file.write('{"step": "made up", "ki')
    rows.write("row", case="b", dtype=torch.bfloat16)
    found, spoilt = read_rows(rows.path)
    assert [row["case"] for row in found] == ["a", "b"] and spoilt == 1
    assert found[1]["dtype"] == "torch.bfloat16"


def test_a_failed_case_is_seen_in_the_exit_code(tmp_path):
    def off() -> Iterator[dict[str, object]]:
        raise ArithmeticError("off by a mile")

    rows = RowFile(tmp_path / "rows.jsonl", "made up")
    fine = Case("fine", lambda: iter([{"ms": 1.0}]))
    assert run_here([fine], rows, []) == 0
    assert run_here([Case("off", off), fine], rows, []) == FAILED
    assert run_here([Case("off", off), fine], rows, ["off"]) == 0


def made_up_tool(folder: Path, code: int) -> Path:
    """A folder with a ``compute-sanitizer`` that notes what it is given and runs nothing."""
    tool = folder / "compute-sanitizer"
    tool.write_text(
        '#!/bin/sh\necho "caching=$PYTORCH_NO_CUDA_MEMORY_CACHING $*" >>"$SESSION_ROWS.given"\n'
        f"exit {code}\n"
    )
    tool.chmod(0o755)
    return folder


@pytest.mark.parametrize("code", [0, 4])
def test_the_sanitizer_gets_every_allocation_and_the_full_shape(tmp_path, code):
    bare = made_up_tool(tmp_path, code)
    done = run_script(tmp_path / "out", "memcheck", PATH=f"{bare}:{os.environ['PATH']}")
    given = (tmp_path / "out/rows.jsonl.given").read_text()
    assert done == 0 and given.startswith("caching=1 --tool memcheck --error-exitcode 9 ")
    assert "smoke --child --skip build --named memcheck" in given and "--tiny" not in given
    rows = read_rows(tmp_path / "out/rows.jsonl")[0]
    assert [row["code"] for row in rows if row["step"] == "memcheck"] == [code]
    # A tool that ran nothing has found nothing.
    assert f"memcheck: NOT clean: 0 cases passed, 0 failed, exit code {code}" in table.render(rows)


def test_a_wheel_that_cannot_be_installed_says_so(tmp_path):
    (tmp_path / "wheels").mkdir()
    for name in ("bad-1-py3-none-any.whl", "good-1-py3-none-any.whl"):
        (tmp_path / "wheels" / name).touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *bad-1*) sleep 0.1; exit 7 ;; esac\n')
    python.chmod(0o755)
    assert run_script(tmp_path / "out", "none", SESSION_PYTHON=str(python)) == 0
    rows = [row for row in read_rows(tmp_path / "out/rows.jsonl")[0] if "wheel" in row["step"]]
    assert [(row["step"], row["code"]) for row in rows] == [
        ("wheel bad-1-py3-none-any.whl", 7),
        ("wheel good-1-py3-none-any.whl", 0),
    ]


def test_a_sanitizer_is_clean_only_where_its_cases_passed():
    def rows(code: int, *kinds: str) -> list[dict[str, object]]:
        cases = [{"step": "memcheck", "kind": kind, "case": "c", "why": "w"} for kind in kinds]
        return [*cases, {"step": "memcheck", "kind": "ended", "seconds": 3, "code": code}]

    assert "memcheck: clean: 1 cases passed" in table.render(rows(0, "finished"))
    for bad in (rows(0), rows(0, "finished", "failed"), rows(9, "finished")):
        assert "memcheck: NOT clean" in table.render(bad)


def test_the_smoke_shape_loads_by_descriptors_and_takes_several_blocks_each_way():
    hidden, weight = smoke.inputs(smoke.SHAPE, torch.bfloat16, 0, bias=False)
    assert all(map(configurations.fits_descriptors, (hidden, weight)))
    assert not configurations.fits_descriptors(hidden[:, :5].contiguous())
    for kernel in ("stats_forward", "stats_backward"):
        tile, by_descriptors = configurations.configuration(kernel, torch.bfloat16, descriptors=9)
        assert by_descriptors
        blocks = [-(-s // b) for s, b in zip(smoke.SHAPE, tile[:3], strict=True)]
        assert min(blocks) > 1 and blocks[2] > tile.num_stages
        assert all(s % b for s, b in zip(smoke.SHAPE, tile[:3], strict=True))


def test_the_smoke_test_sees_a_nan_a_moving_result_and_an_error():
    good = [torch.ones(3), torch.ones(2)]
    exact = [value.double() for value in good]
    fields = smoke.check_results([good, good], exact, 1, torch.float32)
    assert fields == {"value_error": 0.0, "gradient_error": 0.0}
    with smoke.poisoned():
        unwritten = [good[0], torch.empty(2)]
    with pytest.raises(ArithmeticError, match="gradient 0 has 2 NaN of 2"):
        smoke.check_results([unwritten, good], exact, 1, torch.float32)
    with pytest.raises(ArithmeticError, match="value 0 differs between two runs"):
        smoke.check_results([good, [good[0] + 1e-7, good[1]]], exact, 1, torch.float32)
    off = [good[0] + 1e-4, good[1]]
    with pytest.raises(ArithmeticError, match="value 0 is off by 1"):
        smoke.check_results([off, off], exact, 1, torch.float32)


def test_all_that_shapes_and_sweep_launch_is_built_before_them():
    jobs = build.jobs(build.small(FULL))
    assert pickle.loads(pickle.dumps(jobs)).keys() == jobs.keys()
    width = FULL.widths[0]
    swept = {case.name.removeprefix(f"D = {width}, ") for case in sweep.cases(FULL)}
    swept = {name.replace(" ", ", ", 1) for name in swept if not name.startswith("D = ")}
    # What is shipped is built forward and backward by one job.
    assert swept - jobs.keys() == {"stats_backward, shipped", "kl_backward, shipped"}
    assert jobs.keys() - swept == {"unaligned"}
    # As far as Triton looks: whether 16 divides a size.
    sizes = build.small(FULL)
    for field in ("tokens", "vocabulary"):
        assert (getattr(sizes, field) - getattr(FULL, field)) % 16 == 0
    assert sizes.widths == (width,)
    assert build.outcome(partial(divmod, 1, 0)).startswith("ZeroDivisionError")
    assert build.outcome(partial(divmod, 1, 1)) == ""


def test_the_limits_fit_into_the_time_and_what_a_step_leaves_is_the_next_ones(tmp_path):
    steps = re.findall(r"^(?:step|cases) (\w+) (\d+)", SCRIPT.read_text(), re.MULTILINE)
    names = [name for name, _ in steps]
    assert names.index("build") < names.index("shapes") < names.index("sweep")
    assert sum(int(limit) for _, limit in steps) <= 525
    nothing = tmp_path / "python"
    nothing.write_text("#!/bin/sh\n")
    nothing.chmod(0o755)
    assert run_script(tmp_path / "out", "ceilings shapes", SESSION_PYTHON=str(nothing)) == 0
    limits = re.findall(r"^== (\w+), at most (\d+) s", (tmp_path / "out/log.txt").read_text(), re.M)
    given, all_limits = dict(limits), dict(steps)
    most = int(all_limits["ceilings"]) + int(all_limits["shapes"])
    assert list(given) == ["ceilings", "shapes"]
    assert most - 5 <= int(given["shapes"]) <= most


def test_what_is_shipped_is_measured_as_the_launcher_takes_it(monkeypatch):
    """``_operator`` gives what the launcher would choose in place of a result."""
    chosen: list[tuple[str, object]] = []

    def operator(kernel: str, p: object) -> object:
        def run() -> torch.Tensor:
            now = configurations.configuration(kernel, torch.bfloat16, descriptors=9)
            chosen.append((kernel, now))
            return p.hidden.float().sum(dim=1) + sum(
                leaf.sum() for leaf in sweep._leaves(kernel, p)
            )

        return run

    shipped = {
        kernel: configurations.configuration(kernel, torch.bfloat16, descriptors=9)
        for kernel in sweep.CANDIDATES
    }
    monkeypatch.setattr(sweep, "_operator", operator)
    monkeypatch.setattr(sweep, "measured", lambda function, **_: {"ms": float(len(function()))})
    for case in sweep.cases(TINY):
        chosen.clear()
        (row,) = case.run()
        kernel = row["kernel"]
        taken = {now for _, now in chosen}
        if row["shipped"]:
            assert taken == {shipped[kernel]} and row["descriptors"] == shipped[kernel][1]
            assert case.name.endswith("shipped")
        else:
            assert (tuple(row["tile"]), True) in taken
    assert sum(case.name.endswith("shipped") for case in sweep.cases(TINY)) == 4
    assert not shipped["kl_forward"][1] and shipped["stats_forward"][1]


def test_a_route_is_timed_forward_both_ways_and_backward_without_its_gradients(monkeypatch):
    calls: list[str] = []

    def logits(p: HeadProblem) -> tuple[torch.Tensor, ...]:
        calls.append("forward")
        return ((p.hidden @ p.weight.T).float().sum(dim=1),)

    def measured(function: Callable[[], object], **_: object) -> dict[str, object]:
        calls.append("measured")
        function()
        function()
        return {"ms": 1.0, "extra_bytes": 10_000}

    monkeypatch.setattr(rivals, "measured", measured)
    p = HeadProblem(32, 272, 16, torch.bfloat16)
    forward, both, backward = rivals.route_rows(rivals.Route("made up", logits), p)
    gradients = 2 * 16 * (32 + 272)
    assert [row["extra_bytes"] for row in (forward, backward, both)] == [
        10_000,
        10_000 - gradients,
        10_000 - gradients,
    ]
    assert "error" in forward and [row["pass"] for row in (both, backward)] == [
        "forward+backward",
        "backward",
    ]
    # Backward alone goes twice through one graph.
    parts = [len(list(part)) for word, part in groupby(calls) if word == "forward"]
    assert parts == [3, 3] and calls.count("measured") == 3

    def once(p: HeadProblem) -> tuple[torch.Tensor, ...]:
        return (Once.apply(p.hidden).float().sum(dim=1) + p.weight.sum(),)

    _, both, backward = rivals.route_rows(rivals.Route("made up", once), p)
    assert backward["skipped"] == "cannot be repeated" and both["ms"] == 1.0
    # The products that a pass needs at the least.
    products = [row["pass"] for row in rivals.products(p)]
    assert products == ["forward", "backward", "forward+backward"]


class Once(torch.autograd.Function):
    """The identity, whose backward can be done once, as that of torch.compile."""

    @staticmethod
    def forward(context, x):
        context.left = 1
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        context.left -= 1
        if context.left < 0:
            raise RuntimeError("donated buffers require retain_graph=False")
        return gradient


def made_up_rows() -> list[dict[str, object]]:
    """MADE UP: nobody measured these."""

    def rival(route: str, which: str, ms: float, **fields: object) -> dict[str, object]:
        row = {"width": 4096, "route": route, "pass": which, "ms": ms}
        return {"step": "rivals", "kind": "row", "case": route} | row | fields

    machine = {"device": "a made-up GPU", "processors": 7, "versions": {"torch": "0.0"}}
    tile = {"kernel": "stats_forward", "tile": [128, 64, 32, 8, 3, 2], "shipped": True}
    tile |= {"descriptors": True}
    return [
        {"step": "ceilings", "kind": "row", "case": "machine"} | machine,
        {"step": "ceilings", "kind": "row", "case": "copy", "ms": 3.0, "tb_per_s": 1.5},
        {"step": "tests", "kind": "test", "case": "a", "outcome": "passed"},
        {"step": "tests", "kind": "test", "case": "b", "outcome": "failed", "why": "x\nE  boom"},
        {"step": "sweep", "kind": "row", "case": "c", "width": 4096, "ms": 1.25, "error": 3e-6}
        | tile,
        rival(table.BARE, "forward", 10.0),
        rival(table.OURS, "forward", 11.0, extra_bytes=700_000_000, error=2e-6),
        rival("CCE: logprob", "forward", 22.0, divergence=False),
        rival("eager: kl", "forward", 5.0, divergence=True),
        rival(table.BARE, "backward", 30.0),
        rival(table.OURS, "backward", 60.0),
        rival(table.BARE, "forward+backward", 40.0),
        rival(table.OURS, "forward+backward", 71.0, extra_bytes=400_000_000),
        rival("CCE: logprob", "forward+backward", 35.5, divergence=False),
        {"step": "rivals", "kind": "failed", "case": "D = 4096, Liger", "why": "not installed"},
        {"step": "training", "kind": "row", "case": "law", "error": 7e-7, "tolerance": 6e-4},
        {"step": "memcheck", "kind": "ended", "seconds": 3, "code": 9},
    ]


def test_the_table_says_what_the_rows_say():
    text = table.render(made_up_rows(), spoilt=1)
    assert "Measured on a made-up GPU, 7 processors; torch 0.0." in text
    assert "1 passed, 1 failed, 0 skipped" in text
    assert (
        "| 4096 | token_stats, triton: logprob, logsumexp, entropy | forward | 11.00 | 1.10 | 0.70 | 2.0e-06 |"
        in text
    )
    assert "D = 4096, forward: at most 1.15 x the bare products: 1.10, met" in text
    assert "D = 4096, backward: at most 1.15 x the bare products: 2.00, MISSED" in text
    for which, verdict in (("forward", "0.70 GB, MISSED"), ("forward+backward", "0.40 GB, met")):
        assert f"{which}: at most 0.5 GB beyond inputs and gradients: {verdict}" in text
    for which, verdict in (("forward", "met"), ("forward+backward", "MISSED")):
        times = f"(CCE: logprob takes {'2.00' if verdict == 'met' else '0.50'} of its time; without Liger)"
        assert f"{which}: token_stats, triton faster than every rival: {verdict} {times}" in text
    assert "D = 4096, forward: token_kl, triton faster than every rival: not measured" in text
    assert "D = 1024, forward: at most 1.5 x the bare products: not measured" in text
    assert "| 4096 | stats_forward | 128x64x32 8w3s/2 | 1.250 | 3.0e-06 |  | yes |" in text
    assert "- law: off by 7.0e-07 nats of 6.0e-04 that rounding may do" in text
    assert "memcheck: NOT clean: 0 cases passed, 0 failed, exit code 9" in text
    assert "racecheck: not run" in text
    assert "- tests b: failed: E  boom" in text
    assert "- rivals D = 4096, Liger: not installed" in text
    assert "1 lines of the file were cut off" in text


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_the_enumerated_law_is_held_against_float64(precision, monkeypatch):
    (row,) = training.enumerated_law(TINY, precision)
    assert 0 < row["error"] < row["tolerance"]
    monkeypatch.setattr("nondecoupling.lm.enumerated_law.precision_tolerance", lambda *_: 0.0)
    with pytest.raises(ModelError, match=r"off by .* nats"):
        list(training.enumerated_law(TINY, precision))


def test_only_rows_of_a_gpu_are_committed(tmp_path, monkeypatch):
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in made_up_rows()))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- gpu-session -->\nNot measured.\n<!-- /gpu-session -->\nafter\n")
    monkeypatch.setattr(table, "PAGE", page)
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    rehearsed = [row | {"processors": 0} for row in made_up_rows()]
    with pytest.raises(ValueError, match=r"no rows of a GPU; run gpu_session\.sh"):
        table.commit(source, rehearsed, 0)
    assert "Not measured." in page.read_text() and not (tmp_path / "results").exists()
    table.commit(source, made_up_rows(), 0)
    text = page.read_text()
    assert text.startswith("before\n<!-- gpu-session -->\nMeasured on a made-up GPU")
    assert text.endswith("<!-- /gpu-session -->\nafter\n") and "Not measured" not in text
    assert (tmp_path / "results/gpu.jsonl").read_text() == source.read_text()
    # Whichever step wrote down what the machine is.
    other = [
        row | ({"step": "rivals"} if row.get("case") == "machine" else {}) for row in made_up_rows()
    ]
    table.commit(source, other, 0)
    assert "Measured on a made-up GPU" in page.read_text()
    # And again, over what is there.
    table.commit(source, made_up_rows(), 0)
    assert page.read_text() == text


def test_the_docs_page_has_a_place_for_the_summary():
    assert table.BLOCK.search(table.PAGE.read_text())


@pytest.mark.slow  # the script itself, its kernels in Triton's interpreter: half a minute
def test_the_script_runs_through_without_a_gpu(tmp_path):
    pytest.importorskip("triton")
    environment = dict(
        os.environ,
        TRITON_INTERPRET="1",
        SESSION_TINY="1",
        SESSION_PYTHON=sys.executable,
        SESSION_SECONDS="200",
        SESSION_STEPS="ceilings smoke tests memcheck",
        OMP_NUM_THREADS="1",
    )
    # The session's tests are told by their own pytest, whoever runs this one.
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path), str(tmp_path / "no wheels")],
        env=environment,
        check=False,
    )
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, log
    assert len(list(tmp_path.iterdir())) <= 8
    rows, spoilt = read_rows(tmp_path / "rows.jsonl")
    assert spoilt == 0
    smoked = {row["case"] for row in rows if row["step"] == "smoke" and row["kind"] == "finished"}
    assert smoked == {
        f"{options}, {dtype}"
        for options in ("plain", "every option")
        for dtype in ("bfloat16", "float16", "float32")
    }, log
    tested = [row["outcome"] for row in rows if row["kind"] == "test"]
    assert tested and set(tested) == {"passed"}, log
    codes = {row["step"]: row["code"] for row in rows if row["kind"] == "ended"}
    # There is no compute-sanitizer: a failure that is written down, and nothing else stops.
    assert codes == {"ceilings": 0, "smoke": 0, "tests": 0, "memcheck": 127, "session": 0}
    assert "a rehearsal" in (tmp_path / "table.md").read_text()
