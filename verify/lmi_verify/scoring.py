"""Scores tasks: whose end of each question is the likeliest, the reference's and the build's."""

from collections.abc import Sequence
from pathlib import Path

from lmi_verify.errors import Malformed, OutputsUnusable
from lmi_verify.outputs import Outputs, read_outputs, read_prompts
from lmi_verify.paired import TaskOutcome
from lmi_verify.prompts import file_digest
from lmi_verify.tasks import outcome, read_question
from lmi_verify.tensorfiles import read_json


def score(asked: Path, candidate: Path) -> tuple[TaskOutcome, ...]:
    """What became of every task.

    Args:
        asked: The tasks step's outputs.
        candidate: The build's answers to them.

    Raises:
        OutputsUnusable: They cannot be compared, as `read_outputs`; or likelihoods are no numbers.
    """
    listing = read_json(asked / "tasks.json")
    source = read_json(asked / "prompts.json").get("source_digest").text()
    if source != file_digest(asked / "tasks.json"):
        raise OutputsUnusable(("tasks.json is not what prompts.json was made from",))
    prompts = read_prompts(asked)
    right = read_outputs(asked, prompts, side="reference", needed=("likelihoods",))
    built = read_outputs(candidate, prompts, side="candidate", needed=("likelihoods",))
    place = 0
    found = []
    try:
        for task in listing.get("tasks").items():
            marks = []
            for item in task.get("questions").items():
                starts = [each.integer() for each in item.get("starts").items()]
                accepted = read_question(item).right
                before, after = (_choice(side, place, starts) for side in (right, built))
                marks.append((before in accepted, after in accepted))
                place += len(starts)
            name, limit = task.get("name").text(), task.get("max_drop").number()
            found.append(outcome(name, task.get("source").text(), marks, limit))
    except Malformed as error:
        raise OutputsUnusable((f"tasks.json: {error}",)) from error
    return tuple(found)


def _choice(side: Outputs, place: int, starts: Sequence[int]) -> int:
    """Which end has the largest sum of log-probabilities; the first of equals."""
    sums = []
    for index, start in enumerate(starts, start=place):
        told = side.arrays(index).likelihoods
        assert told is not None  # noqa: S101 - asked for when they were read
        sums.append(float(told[start - 1 :].astype(float).sum()))
        if sums[-1] != sums[-1]:
            problem = f"{side.path}: the likelihoods of prompt {index} are no numbers"
            raise OutputsUnusable((problem,))
    return sums.index(max(sums))
