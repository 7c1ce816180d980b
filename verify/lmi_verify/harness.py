"""Tasks of EleutherAI's lm-evaluation-harness, as questions. Its library is asked, not copied.

It lives in the environment, or in a folder of its own in it (`<environment>/lm-eval`), because it
brings thirty packages along. Its data sets come from the hub, or from the hub's cache offline.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lmi_verify.errors import TaskUnavailable
from lmi_verify.tasks import Question, spread

_OWN_FOLDER = "lm-eval"
_FAR = -1e6  # the log-likelihood of an end that is not chosen


def source() -> str:
    """What the questions are from."""
    return f"lm-eval {version('lm_eval')}"


def read(task: str | Mapping[str, Any], most: int | None) -> tuple[Question, ...]:
    """The questions of a task, or of all tasks of a group.

    Args:
        task: Its name, or a task's configuration as the harness reads it from YAML.
        most: So many of them, evenly spread; None takes all.

    Raises:
        TaskUnavailable: The harness is not installed, has no such task, cannot get its data, or
            does not score it by the accuracy of a choice.
    """
    name = task if isinstance(task, str) else str(task.get("task"))
    manager, get_task_dict = _library(name)
    asked = task if isinstance(task, str) else dict(task)
    known = asked == name  # to know its own tasks by name, it reads thousands of files
    try:
        found = get_task_dict([asked], manager(include_defaults=known))
        questions = [
            question
            for leaf_name, leaf in _leaves(found)
            for question in _questions(name, leaf_name, leaf)
        ]
    except TaskUnavailable:
        raise
    except Exception as error:
        why = f"lm-eval says: {type(error).__name__}: {str(error).strip()[:300]}"
        raise TaskUnavailable(name, why) from error
    return spread(questions, most)


def _library(name: str) -> tuple[Any, Any]:
    own = Path(sys.prefix) / _OWN_FOLDER
    if own.is_dir() and str(own) not in sys.path:
        sys.path.append(str(own))  # last: the environment's own packages stay what they are
    try:
        from lm_eval.tasks import TaskManager, get_task_dict  # noqa: PLC0415 - found only now

        version("lm_eval")
    except (ImportError, PackageNotFoundError) as error:
        why = f"it is not built in, and lm-eval is not installed ({error}); pip install lm-eval"
        raise TaskUnavailable(name, why) from error
    return TaskManager, get_task_dict


def _leaves(found: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The tasks of a group of groups, by name."""
    for key, item in found.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, prefix)
        else:
            yield str(key), item


def _questions(name: str, leaf: str, task: Any) -> Iterator[Question]:  # noqa: ANN401 - no types
    """A task's questions, with the contexts and ends that the harness itself would ask."""
    scores = set(task.aggregation())
    if task.OUTPUT_TYPE != "multiple_choice" or "acc" not in scores or "acc_mutual_info" in scores:
        why = f"{leaf} is {task.OUTPUT_TYPE}, scored by {', '.join(sorted(scores))}: not by acc"
        raise TaskUnavailable(name, why)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    asked: dict[int, list[Any]] = {}
    for request in task.instances:
        asked.setdefault(request.doc_id, []).append(request)
    for number, requests in asked.items():
        contexts = {request.args[0] for request in requests}
        if len(contexts) != 1 or not next(iter(contexts)).strip():
            why = f"question {number} of {leaf} has not one context before all its ends"
            raise TaskUnavailable(name, why)
        yield Question(
            id=f"{leaf}-{number}",
            context=contexts.pop(),
            choices=tuple(request.args[1] for request in requests),
            right=tuple(_right(task, requests)),
        )


def _right(task: Any, requests: list[Any]) -> Iterator[int]:  # noqa: ANN401 - no types
    """Which ends the harness marks as right, when they are chosen."""
    every = range(len(requests))
    for chosen in every:
        answers = [(0.0 if each == chosen else _FAR, each == chosen) for each in every]
        if task.process_results(requests[0].doc, answers)["acc"] == 1:
            yield chosen
