"""The commands collect, score and monitor from a shell: a start policy, a later checkpoint, a run."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from nondecoupling.collected import CollectedSamples
from nondecoupling.lm import load_model, tiny_qwen3
from tests.command_line import invoke

PROMPTS = [f"Is {thing} {word}?" for thing in ("snow", "coal", "sky", "sea") for word in "abcd"]
REWARD = """
def says_yes(prompts, completions, answer, **columns):
    return [float(word in text) for word, text in zip(answer, completions)]
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a model, prompts with answers and experts, and a reward function."""
    tiny = tiny_qwen3([*PROMPTS, " yes", " no"], seed=0)
    with torch.no_grad():
        tiny.model.lm_head.weight[tiny.tokenizer(" yes")["input_ids"][0]] *= 3
    tiny.model.save_pretrained(tmp_path / "start")
    tiny.tokenizer.save_pretrained(tmp_path / "start")
    rows = [{"prompt": prompt, "answer": "yes", "expert": " yes"} for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "rewards.py").write_text(REWARD)
    return tmp_path


def arguments(place, **changes):
    options = {
        "reward": f"{place / 'rewards.py'}:says_yes",
        "reward-low": "0",
        "reward-high": "1",
        "max-tokens": "2",
        "k": "4",
        "experts": "expert",
        "out": str(place / "ref.parquet"),
    } | changes
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["collect", str(place / "start"), str(place / "prompts.jsonl"), *given]


def test_from_a_checkpoint_to_the_rise_of_its_successor(place):
    shown = invoke(*arguments(place))
    assert shown.exit_code == 0, shown.output
    assert "16 prompts, 4 responses" in shown.output
    later = load_model(place / "start")
    with torch.no_grad():
        later.model.lm_head.weight *= 1.3
    later.model.save_pretrained(place / "later")
    later.tokenizer.save_pretrained(place / "later")
    file = str(place / "ref.parquet")
    shown = invoke("score", str(place / "later"), file, "--name", "20")
    assert shown.exit_code == 0 and "nats per response" in shown.output, shown.output
    rollouts = [{"input": PROMPTS[i % 16], "score": float(i % 2)} for i in range(64)]
    (place / "20.jsonl").write_text("\n".join(map(json.dumps, rollouts)))
    page = place / "run.html"
    shown = invoke(
        "monitor", str(place / "20.jsonl"), "--samples", file, "--html", str(page), "--json"
    )
    assert shown.exit_code == 0, shown.output
    (reading,) = json.loads(shown.output)["readings"]
    found = CollectedSamples.read(file)
    rise = float((found.log_ref - found.log_p(20)).mean())
    assert reading["sft_loss_rise"]["value"] == pytest.approx(rise)
    text = page.read_text()
    assert text.startswith("<!doctype html>") and "the run" in text and f"{rise:.4g}" in text
    assert "<script" not in text and "src=" not in text  # nothing is loaded from elsewhere


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reward": "says_yes"}, "file.py:name or module:name"),
        ({"reward": "rewards.py:says_yes"}, "no file 'rewards.py'"),
        ({"reward": "math:no_such"}, "math has no function 'no_such'"),
        ({"reward": "no_such_module:f"}, "no_such_module"),
        ({"experts": "gold"}, "row 1 has the columns 'prompt', 'answer', 'expert'; name one that"),
        ({"reward-high": "0.5"}, "reward_bounds=(0, 0.5)"),
        ({"k": "1"}, "--k"),
    ],
)
def test_misuse_is_named(place, change, named):
    shown = invoke(*arguments(place, **change))
    assert shown.exit_code == 2 and named in " ".join(shown.output.split()), shown.output


def test_a_place_of_prompts_without_any(place):
    words = arguments(place)
    for prompts, named in (
        (place, f"{place} is a folder with "),
        (place / "none.jsonl", "none.jsonl: no such file"),
    ):
        shown = invoke(*words[:2], str(prompts), *words[3:])
        assert shown.exit_code == 2 and named in shown.output, shown.output
    (place / "chat.jsonl").write_text('{"question": "Is snow a?", "answer": "yes"}')
    shown = invoke(*words[:2], str(place / "chat.jsonl"), *words[3:])
    said = "chat.jsonl, row 1 has the columns 'question', 'answer': collect reads the prompt from"
    assert shown.exit_code == 2 and said in " ".join(shown.output.split()), shown.output
    (place / "prompts.jsonl").write_text("\n")
    shown = invoke(*words)
    assert shown.exit_code == 2 and "prompts.jsonl is empty" in shown.output, shown.output


BROKEN = {
    "syntax": ("def f(:\n", "SyntaxError: invalid syntax in {file}, line 1;"),
    "indentation": ("def f():\npass\n", "IndentationError: expected an indented block"),
    "name": (
        "import math\nx = maths.pi\n",
        "NameError: name 'maths' is not defined in {file}, line 2;",
    ),
    "import": ("import no_such\n", "No module named 'no_such' in {file}, line 1;"),
    "leaves": ("\nimport sys; sys.exit(1)\n", "SystemExit: 1 in {file}, line 2;"),
    "own error": (
        "class E(BaseException): ...\nclass F(E, Exception): ...\nraise F\n",
        "raised F in {file}, line 3;",
    ),
    "deeper": ("import json\n\njson.loads('{')\n", "in {file}, line 3, from "),
    "in a function": (
        "def f():\n    1 / 0\n\nf()\n",
        "ZeroDivisionError: division by zero in {file}, line 2;",
    ),
    "null bytes": ("x = '\0'\n", "null bytes"),
    "not text": (b"x = '\xff'\n", "SyntaxError: (unicode error)"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("as_module", [False, True])
def test_what_a_file_of_rewards_raises_is_named_with_its_line(place, monkeypatch, kind, as_module):
    file, (text, named) = place / f"broken_{kind.replace(' ', '_')}.py", BROKEN[kind]
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.syspath_prepend(place)
    before = set(sys.modules)
    shown = invoke(*arguments(place, reward=f"{file.stem if as_module else file}:f"))
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2, shown.output
    assert f"importing {file.stem if as_module else file} raised" in said
    assert named.format(file=file) in said and "Traceback" not in said
    assert not {name for name in set(sys.modules) - before if "broken" in name}


def test_files_of_rewards_may_define_dataclasses_of_one_name(place):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
    text += "@dataclass\nclass R:\n    x: float\n    def __call__(self, prompts, **_):\n"
    text += "        return [self.x {}] * len(prompts)\n\nr = R(0.5)\n"
    for folder, more in (("a", ""), ("b", "/ 2")):
        (place / folder).mkdir()
        (place / folder / "graders.py").write_text(text.format(more))
    given = arguments(place, reward=f"{place / 'a' / 'graders.py'}:r")
    shown = invoke(*given, "--reward", f"{place / 'b' / 'graders.py'}:r")
    assert shown.exit_code == 0 and "mean reward 0.75" in shown.output, shown.output
    assert "graders" not in sys.modules  # an import of that name finds its own
    digest = CollectedSamples.read(place / "ref.parquet").origin.rewards_digest
    (place / "b" / "graders.py").write_text(text.format("/ 4"))
    shown = invoke(*given, "--reward", f"{place / 'b' / 'graders.py'}:r")
    assert shown.exit_code == 2 and "rewards_digest" in shown.output and digest[:8] in shown.output


def test_several_reward_functions_are_weighted(place):
    (place / "rewards.py").write_text(
        "def one(prompts, **_): return [1.0] * len(prompts)\n"
        "def half(prompts, **_): return [0.5] * len(prompts)\n"
    )
    given = arguments(place, reward=f"{place / 'rewards.py'}:one")
    given += ["--reward", f"{place / 'rewards.py'}:half"]
    for weights, named in (
        ("1", "for 2 functions: give one for each"),
        ("1,x", "--reward-weights 1,x: give a number for each --reward"),
        ("1,inf", "--reward-weights 1,inf: give finite numbers"),
    ):
        shown = invoke(*given, "--reward-weights", weights)
        assert shown.exit_code == 2 and named in " ".join(shown.output.split()), shown.output
    shown = invoke(*given, "--reward-weights", "0.25,0.5")
    assert shown.exit_code == 0 and "mean reward 0.5" in shown.output, shown.output
    assert set(CollectedSamples.read(place / "ref.parquet").rewards.ravel()) == {0.5}


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("expert", None, "row 2, expert=None: give a text or a list of texts"),
        ("expert", 4, "row 2, expert=4: give a text or a list of texts"),
        ("expert", [" yes", None], "row 2, expert=[' yes', None]: give a text or a list of texts"),
        ("expert", {"text": " yes"}, "row 2, expert={'text': ' yes'}: give a text"),
        ("prompt", None, "row 2, prompt=None: give a text, or a list of messages"),
        ("prompt", 4, "row 2, prompt=4: give a text, or a list of messages"),
        ("prompt", ["a"], "row 2, prompt=['a']: give a text, or a list of messages"),
    ],
)
def test_a_row_of_another_kind_is_named(place, column, value, named):
    rows = [{"prompt": prompt, "answer": "yes", "expert": " yes"} for prompt in PROMPTS[:2]]
    rows[1][column] = value
    (place / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown = invoke(*arguments(place))
    assert shown.exit_code == 2
    assert f"{place / 'prompts.jsonl'}, {named}" in " ".join(shown.output.split()), shown.output


@pytest.mark.parametrize("column", ["prompt", "expert"])
def test_an_empty_cell_of_a_parquet_file_is_named(place, column):
    rows = [{"prompt": prompt, "answer": "yes", "expert": " yes"} for prompt in PROMPTS[:2]]
    rows[1][column] = None
    parquet.write_table(pa.Table.from_pylist(rows), place / "rows.parquet")
    shown = invoke(
        "collect", str(place / "start"), str(place / "rows.parquet"), *arguments(place)[3:]
    )
    assert shown.exit_code == 2
    named = f"{place / 'rows.parquet'}, row 2, {column}=None: give a text"
    assert named in " ".join(shown.output.split()), shown.output


@pytest.mark.parametrize("name", ["no.parquet", "no.jsonl"])
def test_a_file_that_is_not_there_is_said_to_be_missing(place, name):
    model, rest = str(place / "start"), arguments(place)[3:]
    shown = invoke("collect", model, str(place / name), *rest)
    assert shown.exit_code == 2 and f"{name}: no such file" in " ".join(shown.output.split())
    shown = invoke("score", model, str(place / name), "--name", "1")
    assert shown.exit_code == 2 and f"{name}: no such file" in " ".join(shown.output.split())
    shown = invoke("collect", str(place / "no_model"), str(place / "prompts.jsonl"), *rest)
    assert shown.exit_code == 2 and "no_model" in shown.output and "no folder" in shown.output


SLOW_REWARD = (
    REWARD
    + """

def slowly(prompts, completions, answer, **columns):
    import time
    time.sleep(0.1)
    return says_yes(prompts, completions, answer)
"""
)


LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]


def launch(port, *words):
    """``nondecoupling WORDS`` in two processes: its exit status and what it printed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    command = [*LAUNCH, "--main_process_port", str(port), "-m", "nondecoupling", *words]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.slow  # pairs of processes that load torch
def test_two_processes_make_the_files_of_one_and_stop_together(place):
    one, two, options = place / "one.parquet", place / "two.parquet", {"rows-at-once": "4"}
    assert invoke(*arguments(place, **options, out=str(one))).exit_code == 0
    status, output = launch(29631, *arguments(place, **options, out=str(two)))
    assert status == 0 and output.count("16 prompts, 4 responses") == 1, output
    assert one.read_bytes() == two.read_bytes()
    scoring = ["--name", "1", "--rows-at-once", "4"]
    assert invoke("score", str(place / "start"), str(one), *scoring).exit_code == 0
    status, output = launch(29632, "score", str(place / "start"), str(two), *scoring)
    assert status == 0 and output.count("nats per response") == 1, output
    assert one.read_bytes() == two.read_bytes()
    (place / "rewards.py").write_text(
        "import os\nif os.environ['RANK'] == '1':\n    1 / 0\ndef f(prompts, **_): return [0] * len(prompts)\n"
    )
    three = {"reward": f"{place / 'rewards.py'}:f", "out": str(place / "three.parquet")}
    status, output = launch(29633, *arguments(place, **three))
    assert status != 0 and "ZeroDivisionError: division by zero in" in output, output
    assert "process 1 of 2 stopped with ValueError" in output, output


@pytest.mark.slow  # two processes that load torch
def test_a_killed_collection_goes_on_and_makes_the_same_file(place):
    (place / "rewards.py").write_text(SLOW_REWARD)
    options = {"reward": f"{place / 'rewards.py'}:slowly", "rows-at-once": "4"}
    command = [sys.executable, "-m", "nondecoupling", *arguments(place, **options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)
    parts, deadline = place / "ref.parquet.parts", time.monotonic() + 120
    while len(list(parts.glob("*.rewarded.json")) if parts.exists() else []) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(parts.glob("*.rewarded.json")))
    assert 3 <= done < 16 and not (place / "ref.parquet").exists()
    assert subprocess.run(command, **quiet).returncode == 0
    whole = str(place / "whole.parquet")
    assert invoke(*arguments(place, **options, out=whole)).exit_code == 0
    assert (place / "ref.parquet").read_bytes() == (place / "whole.parquet").read_bytes()


def test_the_template_of_chats_gets_its_arguments(place):
    given = arguments(place)
    for text in ("no", "[1]"):
        shown = invoke(*given, "--chat-template-kwargs", text)
        said = f"--chat-template-kwargs {text}: give an object of JSON"
        assert shown.exit_code == 2 and said in " ".join(shown.output.split()), shown.output
    shown = invoke(*given, "--chat-template-kwargs", '{"enable_thinking": false}')
    assert shown.exit_code == 0, shown.output
    origin = CollectedSamples.read(place / "ref.parquet").origin
    assert origin.chat_template_kwargs == {"enable_thinking": False}
