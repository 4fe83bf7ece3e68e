"""The benchmark of what the monitor costs: its ratios, and the table that it writes."""

import pytest
from benchmarks import monitor_cost
from benchmarks.monitor_cost import Length, main, render


def test_a_ratio_is_of_the_two_trainings_of_a_pair():
    length = Length(
        2,
        plain=[1.0, 2.0, 4.0],
        watched=[1.05, 2.0, 5.0],
        prepared=[0.1, 0.1, 0.1],
        prepared_watched=[0.4, 0.5, 0.6],
        shares=[0.0, 1 / 26, 0.2],
    )
    assert length.ratios() == [1.05, 1.0, 1.25]
    assert length.by_its_clock() == [1.0, pytest.approx(1.04), 1.25]
    dear = Length(
        24, plain=[1.0], watched=[1.0], prepared=[0.1], prepared_watched=[0.6], shares=[1 / 6]
    )
    *_, cheap_row, dear_row = render([length, dear], steps=40, load=0.0).splitlines()
    assert (
        cheap_row == "| 2 | 1.040 | 1.000 | 1.250 | 1.050 | 1.000 | 1.250 | 2.00 | 0.40 s | yes |"
    )
    assert (
        dear_row
        == "| 24 | 1.200 | 1.200 | 1.200 | 1.000 | 1.000 | 1.000 | 1.00 | 0.50 s | **no** |"
    )


@pytest.mark.slow  # trainings with TRL
def test_at_a_tiny_size_it_writes_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(monitor_cost, "RESULT", tmp_path / "monitor_cost.md")
    words = ["--tokens", "2", "--steps", "2", "--pairs", "2"]
    main(words)
    assert not (tmp_path / "monitor_cost.md").exists()
    (length,) = main([*words, "--write"])
    text = (tmp_path / "monitor_cost.md").read_text()
    assert text in capsys.readouterr().out
    assert len(length.plain) == len(length.watched) == len(length.once()) == 2
    assert min(length.plain + length.watched) > 0
    assert all(0 < share < 1 for share in length.shares) and len(length.shares) == 2
    row = text.splitlines()[-1]
    assert (
        row.startswith("| 2 |")
        and f"| {min(length.ratios()):.3f} | {max(length.ratios()):.3f} |" in row
    )


def test_the_page_has_the_ratios_of_the_committed_table():
    page = (monitor_cost.RESULT.parents[2] / "docs/watch_a_run.md").read_text()
    rows = [line.split(" | ") for line in monitor_cost.RESULT.read_text().splitlines()]
    ratios = {
        row[0].strip("| "): float(row[1]) for row in rows if len(row) == 10 and row[0][2:].isdigit()
    }
    assert f"{ratios['24']:.2f} times the time with completions of 24 tokens" in page
    assert f"{ratios['2']:.2f} with two" in page
