"""JSON that somebody else wrote, in a served tree or anywhere: read without trust."""

import json
from pathlib import Path
from typing import Any, Final

# More ranks than any deployment has; a number beyond it is a damaged file, not a list of files.
MOST_RANKS: Final = 4096


def parse_json(raw: str | bytes) -> Any:  # noqa: ANN401 - JSON of any shape
    """The JSON value in `raw`.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested too deeply for Python to read.
    """
    try:
        return json.loads(raw)
    except RecursionError:
        message = "it is nested too deeply"
        raise ValueError(message) from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none."""
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
