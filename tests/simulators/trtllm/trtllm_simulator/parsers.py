"""Argument parsers made from `tables/`: they accept exactly what the real tool's parser accepts.

Their errors are argparse's own, as the real tools' are.
"""

import argparse
import json
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parents[1] / "tables"
_TYPES = {"int": int, "float": float, "str": str, "pathlib.Path": Path}


def table(name: str) -> dict[str, Any]:
    """A table by name."""
    loaded: dict[str, Any] = json.loads((TABLES / f"{name}.json").read_bytes())
    return loaded


def build_parser(version: str) -> argparse.ArgumentParser:
    """trtllm-build's, from the facts' table of `version`."""
    parser = argparse.ArgumentParser(prog="trtllm-build")
    for name, entry in table(f"trtllm-build-{version}")["options"].items():
        names = [name, *entry.get("aliases", [])]
        if entry["type"] == "flag":
            parser.add_argument(*names, action="store_true")
            continue
        keywords: dict[str, Any] = {"default": entry["default"]}
        if entry.get("suppress"):
            keywords["default"] = argparse.SUPPRESS
        if entry.get("choices"):
            keywords["choices"] = entry["choices"]
        if entry["type"] == "int":
            keywords["type"] = int
        if "nargs" in entry:
            keywords["nargs"] = entry["nargs"]
        if "const" in entry:
            keywords["const"] = entry["const"]
        parser.add_argument(*names, **keywords)
    return parser


def script_parser(options: dict[str, dict[str, Any]], prog: str) -> argparse.ArgumentParser:
    """A script's, from the options that `generate.py` read in its source."""
    parser = argparse.ArgumentParser(prog=prog)
    for name, entry in options.items():
        keywords: dict[str, Any] = {}
        for key in ("default", "choices", "nargs", "const", "action", "required"):
            value = entry.get(key)
            if key in entry and not isinstance(value, dict):
                keywords[key] = value
        kind = entry.get("type")
        if isinstance(kind, dict) and "action" not in entry:
            keywords["type"] = _TYPES[kind.get("name") or kind["expression"]]
        parser.add_argument(name, *entry["aliases"], **keywords)
    return parser
