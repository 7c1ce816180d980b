"""The calibration text of a recipe, as far as a plan needs it: by content, never by place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_recipes.model import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCalibration:
    """A data set that a recipe names.

    Attributes:
        dataset: as the recipe names it.
        path: the file that it means, relative to the recipe; it may not exist.
        sha256: of that file; None when there is no such file.
        params: what enters the key: the digest and how samples are chosen.
    """

    dataset: str
    path: Path
    sha256: str | None
    params: Mapping[str, JSONValue]


def plan_calibration(
    recipe: Recipe, base: Path, hash_file: Callable[[Path], str]
) -> PlannedCalibration | None:
    """What the recipe's calibration means; None when it has none.

    Args:
        recipe: the recipe.
        base: the folder that the recipe's relative paths start from.
        hash_file: sha256 of a file as hex.
    """
    asked = recipe.quantization.calibration
    if asked is None:
        return None
    path = (base / asked.dataset).resolve()
    digest = hash_file(path) if path.is_file() else None
    return PlannedCalibration(
        dataset=asked.dataset,
        path=path,
        sha256=digest,
        params={
            "sha256": digest,
            "num_samples": asked.num_samples,
            "max_seq_len": asked.max_seq_len,
            "seed": asked.seed,
        },
    )
