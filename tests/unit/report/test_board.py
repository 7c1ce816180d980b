"""What a dashboard shows, and files for other tools, from the history alone."""

import xml.etree.ElementTree as ET

from nights import BROKEN, LONG, QUARANTINED, build, night

from lmi_compile.report.board import board
from lmi_compile.report.run_junit import run_junit
from lmi_compile.report.run_markdown import run_markdown, worst_figure

RUNS = [night(number) for number in reversed(range(30))]


def test_what_broke_has_the_first_red_run_and_both_keys() -> None:
    (line,) = [one for one in board(RUNS).lines if one.name == BROKEN]
    assert line.broke is not None
    assert (line.broke.since, line.broke.last_green) == (
        "2026-10-25T03:00:00Z",
        "2026-10-24T03:00:00Z",
    )
    assert (line.broke.green, line.broke.red) == ("1" * 64, "2" * 64)
    assert line.state == "failed"


def test_what_nobody_could_judge_is_not_shown_as_good() -> None:
    unjudged = [build | {"decision": "UNVERIFIED"} for build in RUNS[0]["builds"]]
    lines = board([RUNS[0] | {"builds": unjudged}]).lines
    assert {line.standing for line in lines if line.state in {"built", "cached"}} == {"unverified"}
    assert {line.standing for line in board(RUNS).lines} == {line.state for line in lines}


def test_quarantined_builds_are_there_and_last_among_the_trouble() -> None:
    assert [line.name for line in board(RUNS).trouble] == [BROKEN, QUARANTINED]


def test_times_and_sizes_are_of_the_newest_run_that_built() -> None:
    first = board(RUNS).lines[0]
    assert first.size == 7_000_000_000 + 25 * 9_000_000
    assert 600 < first.seconds < 900
    assert len(first.points) == 30
    assert first.points[0].started < first.points[-1].started


def test_rows_hold_one_model_in_one_form_on_all_its_targets() -> None:
    rows = {(row.model, row.form): row for row in board(RUNS).rows}
    row = rows["Llama-2-70b-hf", "float16 · tensorrt-llm"]
    assert [line.build["target"] for line in row.lines] == [
        "ml.g5.12xlarge",
        "ml.p4d.24xlarge",
        "ml.p5.48xlarge",
    ]


def test_a_build_that_is_no_longer_asked_for_stays_and_is_stale() -> None:
    newest = {**RUNS[0], "builds": RUNS[0]["builds"][:-1]}
    (line,) = [one for one in board([newest, *RUNS[1:]]).lines if one.name == LONG]
    assert line.stale


def test_no_history_is_an_empty_board() -> None:
    assert board([]).lines == ()


def test_junit_fails_skips_and_passes() -> None:
    run = {
        **RUNS[0],
        "builds": [*RUNS[0]["builds"], build("odd", "m", "t", "none", state="invalid")],
    }
    root = ET.fromstring(run_junit(run))  # noqa: S314 - our own text
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(run["builds"])), "1")
    assert (suite.get("errors"), suite.get("skipped")) == ("1", "1")
    (case,) = [case for case in suite if case.get("name") == BROKEN]
    assert case.find("failure").get("message") == "the verdict is REGRESSION"  # type: ignore[union-attr]  # it has one
    (held,) = [case for case in suite if case.get("name") == QUARANTINED]
    assert "since 2026-10-21" in held.find("skipped").get("message", "")  # type: ignore[union-attr]  # as above


def test_markdown_has_what_is_not_green_first_and_nothing_is_markup() -> None:
    text = run_markdown(RUNS[0], {BROKEN: ["compile: toolchain.tensorrt_llm: a -> b"]})
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert "failed" in rows[2] or "quarantined" in rows[2]
    assert "<b>" not in text
    assert "Changed since it was last green" in text


def test_the_worst_figure_is_the_nearest_to_its_limit() -> None:
    figures = {"a": [1.0, 10.0], "b": [9.0, 10.0], "c": [None, 1.0]}
    assert worst_figure(build("n", "m", "t", "none", figures=figures)) == "b 9 of 10"
