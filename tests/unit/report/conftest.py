"""Verdicts to report: a faulty build of a tiny model, judged for real."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from battery import judged
from catalogue import FAULTS
from ground import BUILDS, Ground

from lmi_verify.verdict import Verdict

FOREIGN = "<script>alert(1)</script> & ]]> \x07 \u202e"


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """A layer is skipped in 8 bits: every plot has something to show."""
    ground = Ground(home=tmp_path_factory.mktemp("report"), longest=16, forced=4)
    fault = next(each for each in FAULTS if each.name == "a layer skipped")
    build = BUILDS["int8"]
    return judged(ground, fault.seed(ground.parts("tiny-0", build), 1.0), "tiny-0", build, 1)


@pytest.fixture(scope="session")
def foreign(regression: Verdict) -> Verdict:
    """The same with a hostile name in every place that a model's files decide."""
    measured = regression.measurements
    assert measured is not None
    prompts = tuple(
        replace(each, id=FOREIGN, reference_pieces=(FOREIGN,), candidate_pieces=("x", FOREIGN))
        for each in measured.prompts
    )
    return replace(
        regression,
        summary=FOREIGN,
        dtype=FOREIGN,
        method=FOREIGN,
        findings=(FOREIGN,),
        checks=tuple(replace(each, prompt=FOREIGN, source=FOREIGN) for each in regression.checks),
        measurements=replace(measured, prompts=prompts),
    )


@pytest.fixture
def verdict_file(regression: Verdict, tmp_path: Path) -> Path:
    path = tmp_path / "some-model" / "verdict.json"
    path.parent.mkdir()
    path.write_text(json.dumps(regression.to_json()), encoding="utf-8")
    return path
