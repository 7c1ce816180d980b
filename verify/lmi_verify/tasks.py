"""Tasks: questions with several ends, answered by likelihood, before and after compiling.

Light: sets of questions, their digest, and how an outcome becomes part of a verdict. A side's
answer is the end whose tokens have the largest sum of log-probabilities.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmi_verify.errors import TaskUnavailable
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.paired import TaskOutcome, least_drop, mcnemar
from lmi_verify.verdict import Check, Verdict

PREFIX = "task:"
_SETS = Path(__file__).parent / "data" / "tasks"
_TEST = (
    "it breaks its limit when the lower 95 % bound of the loss does: one-sided Clopper-Pearson "
    "over the questions that the two answer differently, which is McNemar's exact test where the "
    "limit is 0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        id: Its name in the task.
        context: What stands before every end; not empty.
        choices: The ends, with the blank before them.
        right: Which of them are right, by index.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    right: tuple[int, ...]

    def to_json(self) -> dict[str, JSONValue]:
        """As `read_question` reads it."""
        return {
            "id": self.id,
            "context": self.context,
            "choices": list(self.choices),
            "right": list(self.right),
        }


def built_in() -> tuple[str, ...]:
    """The names of the sets that this installation has."""
    return tuple(sorted(path.stem for path in _SETS.glob("*.json")))


def digest_of(name: str) -> str:
    """The sha256 of a built-in set's file."""
    return f"sha256:{hashlib.sha256((_SETS / f'{name}.json').read_bytes()).hexdigest()}"


def load_questions(name: str) -> tuple[Question, ...]:
    """A built-in set.

    Raises:
        TaskUnavailable: There is none of that name.
    """
    if name not in built_in():
        why = f"the built-in ones are {', '.join(built_in())}"
        raise TaskUnavailable(name, why)
    content = Reader(json.loads((_SETS / f"{name}.json").read_bytes()), name)
    return tuple(read_question(item) for item in content.get("questions").items())


def read_question(item: Reader) -> Question:
    """A question from JSON."""
    return Question(
        id=item.get("id").text(),
        context=item.get("context").text(),
        choices=tuple(each.text() for each in item.get("choices").items()),
        right=tuple(each.integer() for each in item.get("right").items()),
    )


def spread(questions: Sequence[Question], most: int | None) -> tuple[Question, ...]:
    """At most so many of them, evenly from first to last: the same every time."""
    if most is None or most >= len(questions):
        return tuple(questions)
    return tuple(questions[index * len(questions) // most] for index in range(most))


def outcome(
    name: str, source: str, marks: Sequence[tuple[bool, bool]], max_drop: float
) -> TaskOutcome:
    """What became of a task.

    Args:
        name: Its name.
        source: Where its questions are from.
        marks: By question, whether the reference's answer is right, and the build's.
        max_drop: The largest loss that passes, in points (per cent of the questions).
    """
    lost = sum(before and not after for before, after in marks)
    gained = sum(after and not before for before, after in marks)
    count = len(marks)
    return TaskOutcome(
        name=name,
        source=source,
        questions=count,
        reference=sum(before for before, _ in marks) / count,
        candidate=sum(after for _, after in marks) / count,
        lost=lost,
        gained=gained,
        drop=100.0 * (lost - gained) / count,
        least_drop=100.0 * least_drop(lost, gained, count),
        max_drop=max_drop,
        p_value=mcnemar(lost, gained),
    )


def with_tasks(verdict: Verdict, outcomes: Sequence[TaskOutcome]) -> Verdict:
    """The verdict with its tasks: one that lost too much makes an accepted build a REGRESSION."""
    if not outcomes or verdict.decision == "INFEASIBLE":
        return verdict
    checks = tuple(map(_check, outcomes))
    found = replace(verdict, checks=(*verdict.checks, *checks), tasks=tuple(outcomes))
    failed = [check for check in checks if not check.passed]
    if verdict.decision == "ACCEPT" and failed:
        told = f"REGRESSION: {len(failed)} of {len(checks)} tasks fail; {failed[0].reason}"
        return replace(found, decision="REGRESSION", summary=told)
    if verdict.decision == "ACCEPT":
        named = ", ".join(f"{each.name} {each.candidate:.1%}" for each in outcomes)
        return replace(found, summary=f"{verdict.summary}; tasks pass: {named}")
    return found


def _check(task: TaskOutcome) -> Check:
    reason = (
        f"{task.name}: {task.reference:.1%} of {task.questions} questions right before, "
        f"{task.candidate:.1%} after; {task.lost} lost, {task.gained} gained "
        f"(p {task.p_value:.3g}), a loss of at least {task.least_drop:.3g} points, "
        f"limit {task.max_drop:g}"
    )
    return Check(
        metric=f"{PREFIX}{task.name}",
        measured=task.drop,
        limit=task.max_drop,
        direction="at_most",
        passed=task.least_drop <= task.max_drop,
        reason=reason,
        source=f"the recipe's verify.tasks; questions: {task.source}; {_TEST}",
        loosened=False,
        prompt=None,
        low=task.least_drop,
    )
