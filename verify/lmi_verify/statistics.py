"""Sampling noise: what part of a measured difference another text of the same kind could give."""

import math
from collections.abc import Sequence

import numpy as np  # noqa: TID253 - nobody imports this module before it is named

from lmi_verify.measurements import PromptMeasurement
from lmi_verify.rows import Values

BLOCK = 16
RESAMPLES = 2000
_SEED = 20231122
_LEVEL = (2.5, 97.5)
_DEVIATIONS = 1.96  # of a normal distribution hold 95 %


def block_interval(differences: Sequence[Values]) -> tuple[float, float]:
    """The 95 % interval of the mean of paired differences, by a block bootstrap.

    Blocks of 16 tokens are drawn, because neighbouring tokens' differences hang together (Kuensch
    1989). The seed is fixed, so the same differences always give the same interval.

    Args:
        differences: By text, one difference for each token, in order.
    """
    blocks = [text[at : at + BLOCK] for text in differences for at in range(0, len(text), BLOCK)]
    sums = np.array([block.sum() for block in blocks])
    counts = np.array([len(block) for block in blocks])
    drawn = np.random.default_rng(_SEED).integers(len(blocks), size=(RESAMPLES, len(blocks)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, _LEVEL)
    return float(low), float(high)


def agreement_interval(measured: Sequence[PromptMeasurement]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the top-1 agreement (Wilson 1927), where every prompt has one."""
    counted = [(prompt.values.get("top1_agreement"), prompt.rows) for prompt in measured]
    agreeing = [share * rows for share, rows in counted if share is not None]
    if not agreeing or len(agreeing) < len(counted):
        return {}
    rows = sum(rows for _, rows in counted)
    share = sum(agreeing) / rows
    wide = _DEVIATIONS**2 / rows
    middle = (share + wide / 2) / (1 + wide)
    half = math.sqrt(wide * (share * (1 - share) + wide / 4)) / (1 + wide)
    return {"top1_agreement": (middle - half, middle + half)}
