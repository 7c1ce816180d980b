"""JSON files that another tool wrote into a served tree: read without trust."""

import json
from pathlib import Path
from typing import Any, Final

# More ranks than any deployment has; a number beyond it is a damaged file, not a list of files.
MOST_RANKS: Final = 4096


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
