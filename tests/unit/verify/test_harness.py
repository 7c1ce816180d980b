"""Tasks of lm-evaluation-harness: its own questions, and the score that it gives itself.

The library is a folder of its own in the environment; one process asks it everything.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(sys.prefix) / "lm-eval"
_TASK = {
    "task": "animals",
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{right}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
_WRONG = {
    "generates": {"output_type": "generate_until"},
    "other score": {"metric_list": [{"metric": "brier_score"}]},
    "no data": {"dataset_kwargs": {"data_files": {"test": "/nowhere.jsonl"}}},
}
_PROGRAM = """
import json, sys
from pathlib import Path
from lmi_verify import harness, questions, scoring
from lmi_verify.errors import TaskUnavailable

task, wrong, folder, out = json.loads(sys.argv[1])
told = {"questions": [each.to_json() for each in harness.read(task, None)], "refused": {}}
for name, each in wrong.items():
    try:
        harness.read(task | each, None)
    except TaskUnavailable as error:
        told["refused"][name] = str(error)

read = harness.read
harness.read = lambda name, most: read(task, most)  # a task's own file in place of a hub's name
params = {
    "tasks": [{"name": "animals", "num_samples": None, "max_drop": 1.0}],
    "max_input_len": 96, "max_seq_len": 128, "trust_remote_code": False,
}
questions.run(params, {"model": Path(folder)}, Path(out))
(found,) = scoring.score(Path(out), Path(out))
told["scored"] = [found.questions, found.reference, found.source]

# The harness runs its own evaluation over a model that answers by transformers alone.
import torch
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

class Model(LM):
    def __init__(self):
        super().__init__()
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def loglikelihood(self, requests, disable_tqdm=False):
        return [self.one(*request.args) for request in requests]

    @torch.inference_mode()
    def one(self, context, end):
        before = len(self.tokenizer(context).input_ids)
        ids = self.tokenizer(context + end, return_tensors="pt").input_ids
        rows = self.model(ids).logits[0].log_softmax(-1)[before - 1 : -1]
        told = ids[0, before:]
        return float(rows.gather(1, told[:, None]).sum()), bool((rows.argmax(-1) == told).all())

    def loglikelihood_rolling(self, requests, disable_tqdm=False): raise NotImplementedError
    def generate_until(self, requests, disable_tqdm=False): raise NotImplementedError

manager = TaskManager(include_defaults=False)
done = simple_evaluate(model=Model(), tasks=[task], bootstrap_iters=0, task_manager=manager)
told["own score"] = done["results"]["animals"]["acc,none"]
print(json.dumps(told))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _FOLDER.is_dir(), reason="lm-eval is not installed"),
]


def _data(path: Path) -> Path:
    """Twelve questions in a file, as a user has them."""
    animals = ("dog", "cat", "cow", "hen", "duck", "goat", "owl", "pig", "bee", "ant", "fox", "ape")
    says = ("bark", "purr", "low", "cluck", "quack", "bleat", "hoot", "grunt", "hum", "march")
    lines = [
        {
            "question": f"what does the {animal} do?",
            "choices": [says[(at + shift) % len(says)] for shift in range(4)],
            "right": at % 4,
        }
        for at, animal in enumerate(animals)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def told(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program printed; its data sets come from no network."""
    home = tmp_path_factory.mktemp("harness")
    data = {"data_files": {"test": str(_data(home / "data.jsonl"))}}
    (home / "tasks").mkdir()
    given = [{**_TASK, "dataset_kwargs": data}, _WRONG, str(model_dir), str(home / "tasks")]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM, json.dumps(given)],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        },
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_questions_are_the_harness_own_contexts_ends_and_right_answers(
    told: dict[str, Any],
) -> None:
    assert len(told["questions"]) == 12
    assert told["questions"][1] == {
        "id": "animals-1",
        "context": "Question: what does the cat do?\nAnswer:",
        "choices": [" purr", " low", " cluck", " quack"],
        "right": [1],
    }


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("generates", "generate_until"),
        ("other score", "not by acc"),
        ("no data", "lm-eval says"),
    ],
)
def test_what_is_not_scored_by_choices_is_refused_by_name(
    told: dict[str, Any], which: str, said: str
) -> None:
    assert said in told["refused"][which]


def test_the_score_is_the_harness_own(told: dict[str, Any]) -> None:
    count, score, source = told["scored"]
    assert count == 12
    assert source.startswith("lm-eval 0.4")
    assert score == told["own score"]
    assert 0 < score < 1
