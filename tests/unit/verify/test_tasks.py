"""Tasks: questions answered by likelihood on both sides, and what that makes of a verdict."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmi_verify import judging, questions
from lmi_verify.errors import TaskUnavailable
from lmi_verify.scoring import score
from lmi_verify.tasks import Question, built_in, load_questions, outcome, spread, with_tasks
from lmi_verify.verdict import Verdict, infeasible, parse

NAME = "plain-facts-v1"
COUNT = 24
Arrays = dict[str, np.ndarray]
Edit = Callable[[Arrays], object]


@pytest.fixture(scope="module")
def asked(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks")
    params = {
        "tasks": [{"name": NAME, "num_samples": COUNT, "max_drop": 1.0}],
        "max_input_len": 96,
        "max_seq_len": 160,
        "trust_remote_code": False,
    }
    questions.run(params, {"model": model_dir}, out)
    return out


@pytest.fixture
def answered(asked: Path, edited: Callable[..., Path]) -> Callable[[Edit], Path]:
    """A build's answers: the reference's, changed."""
    return lambda edit: edited(edit, name="answers", source=asked)


@pytest.fixture
def judged(reference_dir: Path, asked: Path, tmp_path: Path) -> Callable[..., Verdict]:
    def run(answers: Path, tasks: Path = asked) -> Verdict:
        out = tmp_path / "verdict"
        out.mkdir()
        inputs = {
            "reference": reference_dir,
            "candidate": reference_dir,
            "tasks": tasks,
            "tasks-candidate": answers,
        }
        params = {"dtype": "float32", "method": "none", "gates": {}, "shows": []}
        judging.run(params, inputs, out)
        return parse((out / "verdict.json").read_bytes())

    return run


def nothing(_: Arrays) -> None: ...


def right_ends_unlikely(listing: Mapping[str, object]) -> Edit:
    """The build finds every right end of the first questions impossible."""

    def edit(arrays: Arrays) -> None:
        place = 0
        for question in listing["tasks"][0]["questions"]:
            for index, start in enumerate(question["starts"]):
                if index in question["right"]:
                    arrays[f"{place:03d}.token_log_probs"][start - 1 :] = -99.0
                place += 1

    return edit


def test_the_built_in_set_is_whole_and_has_its_source(request: pytest.FixtureRequest) -> None:
    (name,) = built_in()
    found = load_questions(name)
    assert len({question.id for question in found}) == len(found) == 84
    assert len({question.context for question in found}) == len(found)
    for question in found:
        assert len(set(question.choices)) == 3
        assert all(choice.startswith(" ") and choice.strip() for choice in question.choices)
        assert question.context == question.context.strip()
        (right,) = question.right
        assert 0 <= right < 3
    places = [question.right[0] for question in found]
    assert {places.count(place) for place in range(3)} == {28}
    told = request.config.rootpath / "verify" / "lmi_verify" / "data" / "tasks" / "SOURCES.md"
    assert name in told.read_text(encoding="utf-8")


def test_a_part_of_a_set_is_spread_over_it_and_always_the_same() -> None:
    found = load_questions(NAME)
    assert spread(found, None) == spread(found, 1000) == found
    part = spread(found, 7)
    assert [found.index(question) for question in part] == [0, 12, 24, 36, 48, 60, 72]


def test_answers_are_what_transformers_itself_finds_likeliest(asked: Path, model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)

    def likelihood(question: Question, choice: str) -> float:
        before = tokenizer(question.context, return_tensors="pt").input_ids
        ids = tokenizer(question.context + choice, return_tensors="pt").input_ids
        with torch.inference_mode():
            rows = model(ids).logits[0].log_softmax(-1)
        end = ids[0, before.shape[1] :]
        return float(rows[before.shape[1] - 1 : -1].gather(1, end[:, None]).sum())

    (found,) = score(asked, asked)
    right = 0
    for question in spread(load_questions(NAME), COUNT):
        sums = [likelihood(question, choice) for choice in question.choices]
        right += sums.index(max(sums)) in question.right
    assert found.questions == COUNT
    assert found.reference == found.candidate == right / COUNT
    assert 0 < right < COUNT


def test_a_build_that_answers_as_the_reference_is_accepted(
    judged: Callable[..., Verdict], answered: Callable[[Edit], Path]
) -> None:
    verdict = judged(answered(nothing))
    assert verdict.decision == "ACCEPT"
    assert f"{NAME} " in verdict.summary
    (check,) = [check for check in verdict.checks if check.metric == f"task:{NAME}"]
    assert (check.measured, check.passed) == (0.0, True)
    assert "McNemar" in check.source
    (task,) = verdict.tasks
    assert (task.lost, task.gained, task.p_value) == (0, 0, 1.0)
    assert any(NAME in row[0] for row in verdict.table_rows())


def test_a_build_that_forgets_the_answers_is_a_regression_with_its_figures(
    judged: Callable[..., Verdict], answered: Callable[[Edit], Path], asked: Path
) -> None:
    listing = json.loads((asked / "tasks.json").read_bytes())
    verdict = judged(answered(right_ends_unlikely(listing)))
    assert verdict.decision == "REGRESSION"
    (task,) = verdict.tasks
    assert task.candidate == 0.0
    assert task.lost == round(task.reference * COUNT)
    assert task.gained == 0
    assert task.least_drop > task.max_drop
    assert f"{task.lost} lost" in verdict.summary
    assert not verdict.areas  # logits are right: a task says nothing of where


def test_one_lost_question_is_within_the_noise_of_so_few(
    judged: Callable[..., Verdict], answered: Callable[[Edit], Path], asked: Path
) -> None:
    listing = json.loads((asked / "tasks.json").read_bytes())

    def lose_the_first_that_is_right(arrays: Arrays) -> None:
        place = 0
        for question in listing["tasks"][0]["questions"]:
            names = [f"{place + each:03d}.token_log_probs" for each in range(3)]
            starts = [start - 1 for start in question["starts"]]
            sums = [arrays[each][start:].sum() for each, start in zip(names, starts, strict=True)]
            if (best := int(np.argmax(sums))) in question["right"]:
                arrays[names[best]][starts[best] :] = -99.0
                return
            place += 3

    verdict = judged(answered(lose_the_first_that_is_right))
    (task,) = verdict.tasks
    assert (task.lost, task.gained) == (1, 0)
    assert task.drop > task.max_drop  # more than the limit, and no more than chance
    assert verdict.decision == "ACCEPT"


def not_a_number(arrays: Arrays) -> None:
    arrays["000.token_log_probs"][:] = np.nan


def gone(arrays: Arrays) -> None:
    for name in [name for name in arrays if name.endswith("token_log_probs")]:
        del arrays[name]


def short(arrays: Arrays) -> None:
    arrays["004.token_log_probs"] = arrays["004.token_log_probs"][:-1].copy()


@pytest.mark.parametrize("edit", [not_a_number, gone, short])
def test_answers_that_cannot_be_scored_are_infeasible(
    judged: Callable[..., Verdict], answered: Callable[[Edit], Path], edit: Edit
) -> None:
    assert judged(answered(edit)).decision == "INFEASIBLE"


def test_a_list_of_questions_that_was_changed_afterwards_is_infeasible(
    judged: Callable[..., Verdict], asked: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(asked, changed)
    text = (changed / "tasks.json").read_text(encoding="utf-8")
    (changed / "tasks.json").write_text(text.replace('"right"', '"right" '), encoding="utf-8")
    verdict = judged(changed, changed)
    assert verdict.decision == "INFEASIBLE"
    assert "tasks.json" in verdict.summary


def test_a_verdict_without_a_comparison_gets_no_tasks() -> None:
    task = outcome("t", "here", [(True, False)] * 9, 1.0)
    verdict = infeasible(("no",), dtype="float32", method="none")
    assert with_tasks(verdict, [task]) == verdict


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(TaskUnavailable, match="plain-facts-v1"):
        load_questions("mmlu")
