"""Fields of a model's config.json, read with every problem kept."""

from collections.abc import Mapping, Sequence

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ModelFault

# Far above every model there is; what is above them is a mistake or an attack.
MOST_LAYERS = 10_000
MOST_WIDTH = 1 << 22
MOST_HEADS = 1 << 14
MOST_ROWS = 1 << 26
MOST_EXPERTS = 1 << 14


class Fields:
    """A config that is read field by field; a field that is wrong is noted and reads as 1.

    Args:
        config: the object in config.json.
    """

    def __init__(self, config: Mapping[str, JSONValue]) -> None:
        self.config = config
        self.problems: list[str] = []

    def number(
        self, *names: str, default: int | None = None, most: int = MOST_WIDTH, least: int = 1
    ) -> int:
        """A whole number under the first of `names` that is there and not null."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                self.problems.append(f"{name} must be a whole number, not {_shown(value)}")
                return max(least, 1)
            if not least <= value <= most:
                self.problems.append(f"{name} must be between {least} and {most}, not {value}")
                return max(least, 1)
            return value
        if default is None:
            self.problems.append(f"{' or '.join(names)} is missing")
            return max(least, 1)
        return default

    def layers(self, *names: str) -> int:
        """How many layers there are."""
        return self.number(*(names or ("num_hidden_layers", "n_layer", "num_layers")),
                           most=MOST_LAYERS)  # fmt: skip

    def heads(self, *names: str, default: int | None = None) -> int:
        """How many heads there are."""
        found = names or ("num_attention_heads", "n_head", "num_heads")
        return self.number(*found, default=default, most=MOST_HEADS)

    def rows(self, *names: str, default: int | None = None) -> int:
        """Rows of an embedding."""
        return self.number(*(names or ("vocab_size",)), default=default, most=MOST_ROWS)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problems.append(f"{name} must be true or false, not {_shown(value)}")
            return default
        return value

    def text(self, name: str, default: str) -> str:
        """A word."""
        value = self.config.get(name)
        return value if isinstance(value, str) else default

    def words(self, name: str) -> tuple[str, ...]:
        """A list of words; empty when there is none."""
        value = self.config.get(name)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return ()
        return tuple(word for word in value if isinstance(word, str))

    def numbers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.problems.append(f"{name} must be a list of whole numbers, not {_shown(value)}")
            return default
        kept = [one for one in value if isinstance(one, int) and 0 <= one <= MOST_WIDTH]
        if len(kept) != len(value) or len(kept) > MOST_LAYERS:
            self.problems.append(f"{name} must be a list of whole numbers")
            return default
        return tuple(kept)

    def head_dim(self, hidden: int, heads: int) -> int:
        """The width of a head: stated, else the hidden width shared among the heads."""
        if self.config.get("head_dim") is None and hidden % heads:
            self.problems.append(f"hidden size {hidden} is not a multiple of {heads} heads")
        return self.number("head_dim", default=max(1, hidden // heads))

    def require(self, holds: object, problem: str) -> None:
        """Note `problem` unless `holds`."""
        if not holds:
            self.problems.append(problem)

    def check(self) -> None:
        """End the reading.

        Raises:
            ModelFault: with every problem that was noted, in one message.
        """
        if self.problems:
            listed = dict.fromkeys(self.problems)
            what = f"config.json cannot be planned with: {'; '.join(listed)}"
            raise ModelFault(what, fix="correct config.json, or name the model it belongs to")


def _shown(value: JSONValue) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - a line of a message
