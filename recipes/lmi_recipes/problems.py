"""A problem of a recipe, with the place it stands at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmi_recipes.jsonvalue import JSONValue

_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a file; line and column count from 1, and are None outside files (`--set`)."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where it stands, and what was probably meant.

    Attributes:
        file: The file as the user named it, or the `--set` text.
        line: From 1; None when the problem has no line.
        column: From 1; None when the problem has no column.
        field: The dotted path of the field, `shapes.buckets.prefill[1]`; empty for the whole file.
        message: What is wrong, as half a sentence.
        value: What was found, shortened; None when nothing was.
        nearest: The closest valid value or field; None when nothing comes close.
    """

    file: str
    line: int | None = None
    column: int | None = None
    field: str = ""
    message: str
    value: str | None = None
    nearest: str | None = None

    def __str__(self) -> str:
        """Return `file:line:col: field: message (got X; did you mean Y?)`."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        field = f"{self.field}: " if self.field else ""
        asides = []
        if self.value is not None:
            asides.append(f"got {self.value}")
        if self.nearest is not None:
            asides.append(f"did you mean {self.nearest}?")
        aside = f" ({'; '.join(asides)})" if asides else ""
        return f"{place}: {field}{self.message}{aside}"

    def to_json(self) -> dict[str, JSONValue]:
        """Return the problem as a JSON object with every field present."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "field": self.field,
            "message": self.message,
            "value": self.value,
            "nearest": self.nearest,
        }


def at(
    mark: Mark,
    message: str,
    *,
    field: str = "",
    value: str | None = None,
    nearest: str | None = None,
) -> Problem:
    """Return a problem that stands at `mark`."""
    return Problem(
        file=mark.file,
        line=mark.line,
        column=mark.column,
        field=field,
        message=message,
        value=value,
        nearest=nearest,
    )


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems as they stand in the file, those without a line last."""
    unplaced = 1 << 62
    return tuple(
        sorted(problems, key=lambda p: (p.line or unplaced, p.column or unplaced, p.field))
    )


def shown(value: object) -> str:
    """Return a value as JSON on one line, cut to a length people read."""
    import json  # noqa: PLC0415 - only a recipe with problems pays for it

    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def closest(word: str, choices: Sequence[str]) -> str | None:
    """Return the choice that looks most like `word`, or None when none does."""
    import difflib  # noqa: PLC0415 - only a recipe with problems pays for it

    folded = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word[:200].lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None
