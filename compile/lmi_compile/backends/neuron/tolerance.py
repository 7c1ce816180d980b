"""Teacher-forced rows of a built model against our reference's, by the vendor's tolerance maps.

For each k the k likeliest tokens of the reference are compared: the largest error, as a share of
the row's largest |logit|, has to stay under the map's rtol. A k of null is the whole vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
from safetensors.numpy import load_file  # noqa: TID253 - as above

from lmi_verify.verdict import Check


class NotComparable(Exception):
    """The two sides do not have the same prompts, tokens or vocabulary."""


class NotFinite(Exception):
    """The built model's rows hold NaN or infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One scored token of a prompt.

    Attributes:
        prompt: its number.
        expected: the reference's logits, by token.
        error: of each token that the built model gave.
        ids: those tokens, where they are its likeliest only; None for the whole vocabulary.
    """

    prompt: str
    expected: Any
    error: Any
    ids: Any

    def largest(self, likeliest: int) -> float | None:
        """The largest error among the likeliest tokens; None where another number was given."""
        if self.ids is not None:
            return float(self.error.max()) if len(self.ids) == likeliest else None
        return float(self.error[np.argpartition(-self.expected, likeliest - 1)[:likeliest]].max())


def checks(
    reference: Path, candidate: Path, limits: Mapping[str, Any]
) -> tuple[tuple[Check, ...], int]:
    """The checks of every k that the built model's rows reach, and how many prompts there were.

    Args:
        reference: with `outputs.safetensors`, float32 `000.forced_logits` [tokens, vocabulary].
        candidate: with `outputs.npz`: `000.rows`, or `000.top_ids` and `000.top_logprobs`.
        limits: `tol_map` and `source`.

    Raises:
        NotComparable: the sides do not fit together.
        NotFinite: the built model answered NaN or infinity.
    """
    expected = load_file(reference / "outputs.safetensors")
    wanted = {name.partition(".")[0] for name in expected if name.endswith(".forced_logits")}
    with np.load(candidate / "outputs.npz", allow_pickle=False) as held:
        built = {name: held[name] for name in held.files}
    given = {name.partition(".")[0] for name in built}
    if given != wanted:
        raise NotComparable(f"prompts {', '.join(sorted(given ^ wanted))} are on one side only")
    rows = [row for number in sorted(wanted) for row in _rows(number, expected, built)]
    found = (_check(entry, rows, str(limits["source"])) for entry in limits["tol_map"])
    return tuple(check for check in found if check is not None), len(wanted)


def _rows(number: str, expected: Mapping[str, Any], built: Mapping[str, Any]) -> Iterator[_Row]:
    right = expected[f"{number}.forced_logits"].astype(np.float64)
    logits = built.get(f"{number}.rows")
    named = "rows" if logits is not None else "top_logprobs"
    values = built[f"{number}.{named}"].astype(np.float64)
    if not np.isfinite(values).all():
        raise NotFinite(f"{number}.{named} holds NaN or infinity")
    if len(values) > len(right) or (logits is not None and values.shape[1:] != right.shape[1:]):
        raise NotComparable(f"{number}.{named} is {values.shape}, the reference {right.shape}")
    for place, row in enumerate(values):
        expected, ids = right[place], None
        error = row - expected if logits is not None else None
        if error is None:
            ids = built[f"{number}.top_ids"][place]
            error = row - _log_softmax(expected)[ids]
        yield _Row(prompt=number, expected=expected, error=np.abs(error), ids=ids)


def _log_softmax(row: Any) -> Any:  # noqa: ANN401 - numpy's arrays
    shifted = row - row.max()
    return shifted - np.log(np.exp(shifted).sum())


def _check(entry: Mapping[str, Any], rows: Sequence[_Row], source: str) -> Check | None:
    """The worst row for one k; None where the built model gave another number of tokens."""
    likeliest, limit = entry["top_k"], float(entry["rtol"])
    worst, where = 0.0, rows[0].prompt
    for row in rows:
        size = len(row.expected)
        largest = row.largest(size if likeliest is None else min(likeliest, size))
        if largest is None:
            return None
        value = max(0.0, largest - float(entry["atol"])) / float(np.abs(row.expected).max())
        if value > worst:
            worst, where = value, row.prompt
    name = "all" if likeliest is None else f"top{likeliest}"
    return Check(
        metric=f"error_rel_{name}",
        measured=worst,
        limit=limit,
        direction="at_most",
        passed=worst <= limit,
        reason=f"largest error of {name} is {worst:.6g} of max |logit|, at most {limit:g}",
        source=source,
        loosened=False,
        prompt=where,
    )
