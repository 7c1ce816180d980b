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


def share_intervals(measured: Sequence[PromptMeasurement]) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of shares of positions (Wilson 1927), where every prompt has them."""
    return {
        name: _wilson([(each, prompt.rows) for prompt, each in shares if each is not None])
        for name in ("top1_agreement", "clear_flips")
        if (shares := [(prompt, prompt.values.get(name)) for prompt in measured])
        and all(each is not None for _, each in shares)
    }


def _wilson(counted: Sequence[tuple[float, int]]) -> tuple[float, float]:
    rows = sum(rows for _, rows in counted)
    share = sum(share * rows for share, rows in counted) / rows
    wide = _DEVIATIONS**2 / rows
    middle = (share + wide / 2) / (1 + wide)
    half = math.sqrt(wide * (share * (1 - share) + wide / 4)) / (1 + wide)
    return middle - half, middle + half
