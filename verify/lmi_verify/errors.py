"""What can go wrong in this room, by whose fault it is. Each class builds its own message."""

from pathlib import Path


class VerifyError(Exception):
    """Base of every known failure of verification."""


class OutputsUnusable(VerifyError):
    """Outputs that cannot be compared: another prompt set, truncated, another vocabulary.

    A judge turns this into the decision INFEASIBLE.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("the outputs cannot be compared: " + "; ".join(problems))


class ModelUnreadable(VerifyError):
    """A model directory that Hugging Face's own code cannot run: the model's fault."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(
            f"the model cannot be used: {path}: {why}; get this file again from the model's source"
        )


class LimitsTooSmall(VerifyError):
    """Shape limits that leave no room for one prompt token and one generated token."""

    def __init__(self, max_input_len: int, max_seq_len: int) -> None:
        self.max_input_len = max_input_len
        self.max_seq_len = max_seq_len
        super().__init__(
            f"no prompt fits: max_input_len is {max_input_len} (at least 1 is needed) and "
            f"max_seq_len is {max_seq_len} (at least 2); raise them in the recipe's `shapes`"
        )


class PromptSetUnknown(VerifyError):
    """A prompt set of that version, or of that content, is not part of this installation."""

    def __init__(self, version: str, known: tuple[str, ...], why: str = "") -> None:
        self.version = version
        self.known = known
        reason = f" ({why})" if why else ""
        super().__init__(f"no prompt set {version!r}{reason}; there is: {', '.join(known)}")


class TaskUnavailable(VerifyError):
    """A task whose questions cannot be had: nobody knows it, or what knows it is not installed."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.why = why
        super().__init__(f"the task {name!r} cannot be scored: {why}")


class GateInvalid(VerifyError):
    """Gates with an unknown metric or a limit that is no number: the recipe's fault."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("invalid gates: " + "; ".join(problems))


class Malformed(VerifyError):
    """JSON of another shape than its format says."""

    def __init__(self, where: str, needed: str, found: object) -> None:
        self.where = where
        super().__init__(f"{where} must be {needed}, not {str(found)[:60]!r}")
