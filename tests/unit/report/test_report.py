"""Verdicts as a page, as Markdown, as JUnit; and the verb."""

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from lmi_compile.backend import remarks_on
from lmi_compile.cli.report_verb import report
from lmi_compile.report.junit import junit
from lmi_compile.report.markdown import markdown
from lmi_compile.report.page import page
from lmi_compile.report.scales import linear, logarithmic
from lmi_verify.verdict import Verdict, infeasible, unverified

FOREIGN = "<script>alert(1)</script>"


class _Parsed(HTMLParser):
    """The tags of a page, what they link to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_shows_the_decision_every_gate_and_four_plots(regression: Verdict) -> None:
    parsed = _Parsed(page(regression, "some-model"))
    assert "REGRESSION" in parsed.words
    assert parsed.tags.count("svg") == 4
    assert parsed.words.count("✗ fail") == sum(not each.passed for each in regression.checks)
    assert parsed.words.count("✓ pass") == sum(each.passed for each in regression.checks)
    assert f"Look first at: {regression.areas[0].name}" in parsed.words


def test_the_page_marks_where_a_greedy_text_differs(regression: Verdict) -> None:
    assert regression.measurements is not None
    apart = [each for each in regression.measurements.prompts if each.divergence is not None]
    parsed = _Parsed(page(regression, "some-model"))
    assert apart
    assert parsed.tags.count("mark") == 2 * len(apart)


def test_what_a_recipe_means_for_serving_is_noted(regression: Verdict) -> None:
    recipe = {"backend": "aoti", "target": {"cpu": "any"}, "quantization": {"method": "fp8"}}
    notes = remarks_on(recipe)
    assert ["slower than float32" in note for note in notes] == [True]
    assert notes[0] in _Parsed(page(regression, "some-model", (), notes)).words
    assert "slower than float32" in markdown("some-model", regression, notes)
    for other in ({"quantization": {"method": "none"}}, {"target": {}}, {"backend": "unknown"}):
        assert not remarks_on(recipe | other)


def test_the_page_asks_nothing_of_the_network(regression: Verdict) -> None:
    parsed = _Parsed(page(regression, "some-model"))
    assert parsed.links == ["data:,"]
    assert not {"script", "iframe", "img", "object", "embed"} & set(parsed.tags)


def test_foreign_words_stay_words(foreign: Verdict) -> None:
    parsed = _Parsed(page(foreign, FOREIGN))
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script>" in parsed.words
    assert "<script>" not in markdown(FOREIGN, foreign)
    suites = ET.fromstring(junit([(FOREIGN, foreign)]))  # noqa: S314 - made two lines above
    assert suites.find("testsuite") is not None


def test_junit_has_a_case_for_each_gate_and_the_decision(regression: Verdict) -> None:
    suite = ET.fromstring(junit([("m", regression)])).find("testsuite")  # noqa: S314 - made here
    assert suite is not None
    failed = [each.get("name") for each in suite if each.find("failure") is not None]
    assert failed == ["decision", *(each.metric for each in regression.checks if not each.passed)]
    assert suite.get("failures") == str(len(failed))
    assert suite.get("tests") == str(len(suite))


def test_junit_tells_an_error_from_a_skip() -> None:
    broken = infeasible(("truncated",), dtype="float32", method="none")
    unasked = unverified("no gate", dtype="bfloat16", method="x")
    text = junit([("a", broken), ("b", unasked)])
    cases = ET.fromstring(text).findall(".//testcase")  # noqa: S314 - made one line above
    assert [case[0].tag for case in cases] == ["error", "skipped"]


@pytest.mark.parametrize(
    "verdict",
    [
        infeasible(("truncated",), dtype="float32", method="none"),
        unverified("truncated", dtype="float32", method="none"),
    ],
)
def test_a_page_without_numbers_says_why(verdict: Verdict) -> None:
    parsed = _Parsed(page(verdict, "m"))
    assert "truncated" in parsed.words
    assert "svg" not in parsed.tags


def test_the_verb_writes_all_three(verdict_file: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"r.{kind}" for kind in ("html", "junit", "markdown")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    done = CliRunner().invoke(report, [str(verdict_file), *options, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["subject"] == "some-model"
    assert told["decision"] == "REGRESSION"
    assert all(path.stat().st_size > 500 for path in files.values())


def test_layers_of_an_explained_verdict_are_drawn(verdict_file: Path, tmp_path: Path) -> None:
    layers = [{"name": f"layer {i}", "error": 10.0**i, "band": 1.0} for i in range(-3, 2)]
    explained = json.loads(verdict_file.read_bytes()) | {"layers": {"layers": layers}}
    verdict_file.write_text(json.dumps(explained))
    out = tmp_path / "r.html"
    done = CliRunner().invoke(report, [str(verdict_file), "--html", str(out)])
    assert done.exit_code == 0, done.output
    assert _Parsed(out.read_text(encoding="utf-8")).tags.count("svg") == 5


def test_the_verb_prints_markdown_when_nothing_else_is_asked_for(verdict_file: Path) -> None:
    done = CliRunner().invoke(report, [str(verdict_file.parent)])
    assert done.stdout.startswith("## some\\-model: REGRESSION\n")


def test_a_file_that_is_no_verdict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    path.write_text('{"format": 99}')
    done = CliRunner().invoke(report, [str(path)])
    assert done.exit_code == 2
    assert "is no verdict" in done.output


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((0.0, 10.0), (0, 2.5, 5, 7.5, 10)), ((3.0,), (3, 4.5, 6)), ((-2.0, 2.0), (-2, -1, 0, 1, 2))],
)
def test_a_linear_axis_ends_at_ticks(values: tuple[float, ...], ticks: tuple[float, ...]) -> None:
    scale = linear(values, 0, 100)
    assert scale.ticks[0] <= min(values) <= max(values) <= scale.ticks[-1]
    assert len(scale.ticks) >= len(ticks) - 1


def test_a_logarithmic_axis_has_six_decades_at_most() -> None:
    scale = logarithmic([1e-30, 1e-3, 5.0], 0, 60)
    assert scale.ticks[0] == pytest.approx(1e-5)
    assert scale(1e-30) == 0
    assert scale.label(1e-3) == "10⁻³"


def test_a_build_without_a_verdict_is_an_error_in_junit_or_skipped() -> None:
    text = junit([("a", "the compiler <failed>"), ("b", None)])
    root = ET.fromstring(text)  # noqa: S314 - made one line above
    first, second = root.findall("testsuite")
    assert (first.get("errors"), second.get("errors"), second.get("skipped")) == ("1", "0", "1")
    error = first.find("testcase/error")
    assert error is not None
    assert error.get("message") == "the compiler <failed>"
