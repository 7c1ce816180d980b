"""What one block of rows of logits says of another. Pure functions over numpy arrays.

Sums run in float64 over a few rows at a time, so that memory stays bounded at any vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
import numpy.typing as npt  # noqa: TID253 - as above

from lmi_verify.tensorfiles import FloatArray

Values: TypeAlias = npt.NDArray[np.float64]
TOP_KS = (5, 50, 1000)
CLEARLY = 0.5  # nats: the reference's own choice is 1.65 times as likely as the other
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One value for each row; NaN where the candidate's row holds NaN or infinity.

    Attributes:
        error: max |error|.
        scale: The reference's max |logit|.
        kl: KL(reference || candidate), nats.
        gap: The reference's best logit minus its logit of the candidate's choice.
        rank: How many of the candidate's logits are above that of the reference's choice, plus 1.
        slope: Of the candidate's centred logits over the reference's: 1 where nothing scales them.
        topk: By name (`5`, `50`, `1000`, `all`): the largest error over the row's k best reference
            logits / the largest |logit| of them. The form of NxD Inference's tolerance map (its
            `utils/accuracy.py`).
        nonfinite: Rows that hold NaN or infinity.
        flat: Rows whose logits are all equal where the reference's are not.
        identical: Rows that are bit for bit the reference's.
    """

    error: Values
    scale: Values
    kl: Values
    gap: Values
    rank: Values
    slope: Values
    topk: dict[str, Values]
    nonfinite: int
    flat: int
    identical: int

    @property
    def agreeing(self) -> Values:
        """1 where both sides choose the same token, else 0."""
        return np.where(np.isnan(self.gap), np.nan, self.gap == 0)

    @property
    def flipped(self) -> Values:
        """1 where the candidate's choice is one that the reference has clearly behind, else 0."""
        return np.where(np.isnan(self.gap), np.nan, self.gap >= CLEARLY)


def compare_rows(reference: FloatArray, candidate: FloatArray) -> Rows:
    """One block against the other, both [rows, vocab]."""
    parts = [_some(*pair) for pair in _chunks(reference, candidate)]
    names = ("error", "scale", "kl", "gap", "rank", "slope")
    joined = {name: _join([part[name] for part in parts]) for name in names}
    finite = np.isfinite(candidate).all(axis=1)
    flat = (candidate == candidate[:, :1]).all(axis=1) & (np.ptp(reference, axis=1) > 0)
    return Rows(
        **joined,
        topk={f"{k}": _join([part[f"{k}"] for part in parts]) for k in (*TOP_KS, "all")},
        nonfinite=int((~finite).sum()),
        flat=int((flat & finite).sum()),
        identical=int((_bits(reference) == _bits(candidate)).all(axis=1).sum()),
    )


def is_frozen(logits: FloatArray) -> bool:
    """Whether two or more rows of `logits`, [n, vocab], are all bit for bit the same."""
    return len(logits) > 1 and bool((_bits(logits) == _bits(logits[:1])).all())


def kl_rows(reference: FloatArray, candidate: FloatArray) -> Values:
    """float64 [n]: KL(softmax(reference) || softmax(candidate)) of each row, in nats.

    Args:
        reference: float32 [n, vocab].
        candidate: The same shape.
    """
    return _join([_kl(a.astype(float), b.astype(float)) for a, b in _chunks(reference, candidate)])


def log_softmax(logits: Values) -> Values:
    """Of each row, in float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normal: Values = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normal


def _some(reference: FloatArray, candidate: FloatArray) -> dict[str, Values]:
    finite = np.asarray(np.isfinite(candidate).all(axis=1))
    ours = reference.astype(np.float64)
    theirs = np.where(finite[:, None], candidate, 0.0).astype(np.float64)
    error = np.abs(ours - theirs)
    rows = np.arange(len(ours))
    best, chosen = ours.argmax(axis=1), theirs.argmax(axis=1)
    found = {
        "error": error.max(axis=1),
        "kl": _kl(ours, theirs),
        "gap": ours[rows, best] - ours[rows, chosen],
        "rank": 1.0 + (theirs > theirs[rows, best][:, None]).sum(axis=1),
        "slope": _slope(ours, theirs),
        **_topk_errors(ours, error),
    }
    hidden = {name: np.where(finite, value, np.nan) for name, value in found.items()}
    return {"scale": np.abs(ours).max(axis=1), **hidden}


def _kl(ours: Values, theirs: Values) -> Values:
    """Rounding below 0 is cut off."""
    left, right = log_softmax(ours), log_softmax(theirs)
    total: Values = (np.exp(left) * (left - right)).sum(axis=1)
    return np.maximum(total, 0.0)


def _slope(ours: Values, theirs: Values) -> Values:
    left = ours - ours.mean(axis=1, keepdims=True)
    right = theirs - theirs.mean(axis=1, keepdims=True)
    square = (left * left).sum(axis=1)
    found: Values = (left * right).sum(axis=1) / np.where(square > 0, square, 1.0)
    return np.where(square > 0, found, 1.0)


def _topk_errors(ours: Values, error: Values) -> dict[str, Values]:
    vocab = ours.shape[1]
    most = min(TOP_KS[-1], vocab)
    head = np.argpartition(-ours, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(ours, head, axis=1), axis=1)
    head = np.take_along_axis(head, order, axis=1)
    top, wrong = np.take_along_axis(ours, head, axis=1), np.take_along_axis(error, head, axis=1)
    found = {f"{k}": _ratio(wrong[:, :k], top[:, :k]) for k in TOP_KS}
    return {**found, "all": _ratio(error, ours)}


def _ratio(error: Values, values: Values) -> Values:
    scale = np.abs(values).max(axis=1)
    found: Values = error.max(axis=1) / np.where(scale > 0, scale, 1.0)
    return found


def _chunks(left: FloatArray, right: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    step = max(1, _CHUNK_VALUES // left.shape[1])
    for start in range(0, len(left), step):
        yield left[start : start + step], right[start : start + step]


def _join(parts: list[Values]) -> Values:
    return np.concatenate(parts) if parts else np.empty(0)


def _bits(logits: FloatArray) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(logits).view(np.uint32)
