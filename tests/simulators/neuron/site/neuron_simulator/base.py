"""Tables, the machine, refusals, and argparse parsers made from the tables."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
NOT_A_NEFF = b"this is no NEFF: a simulator wrote it\n"


def table(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "tables" / f"{name}.json").read_bytes())
    return loaded


def machine() -> dict[str, Any]:
    path = os.environ["NEURON_SIMULATOR_MACHINE"]
    loaded: dict[str, Any] = json.loads(Path(path).read_bytes())
    return loaded


def quoted(name: str) -> str:
    return str(table("refusals")["quoted"][name]["text"])


def refuse(text: str) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    sys.exit(1)


def say(text: str) -> None:
    sys.stdout.write(f"[simulator] {text}\n")
    sys.stdout.flush()


def parser_of(flags: dict[str, Any], parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add a table's flags; abbreviations are refused, which is stricter than the real tools."""
    groups: dict[str, Any] = {}
    for flag, spec in flags.items():
        into: Any = parser
        if group := spec.get("exclusive_group"):
            if group not in groups:
                groups[group] = parser.add_mutually_exclusive_group()
            into = groups[group]
        _add(into, flag, spec)
    return parser


def _add(parser: Any, flag: str, spec: dict[str, Any]) -> None:
    names = [flag, *spec.get("aliases", [])]
    options: dict[str, Any] = {}
    if "dest" in spec:
        options["dest"] = spec["dest"]
    if spec["kind"] == "flag":
        parser.add_argument(*names, action="store_true", **options)
        return
    if spec["kind"] == "append":
        options["action"] = "append"
    if "nargs" in spec:
        options["nargs"] = spec["nargs"]
    if "choices" in spec:
        options["choices"] = spec["choices"]
    kinds = {"int": int, "float": float}
    parser.add_argument(
        *names,
        type=kinds.get(spec.get("type", "str"), str),
        required=bool(spec.get("required", False)),
        default=spec.get("default"),
        **options,
    )


def read_config(folder: str) -> dict[str, Any]:
    """A model directory's config.json; hub ids are refused, because nothing is fetched here."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        refuse(f"OSError: {folder} does not appear to have a file named config.json.")
    loaded: dict[str, Any] = json.loads(path.read_bytes())
    return loaded


def compile_graph(cores: int) -> None:
    """What every compile meets: the machine's own ways to die."""
    match machine()["fail"]:
        case "killed":
            refuse(quoted("killed"))
        case "instructions":
            refuse(quoted("instructions"))
        case _:
            say(f"compiled for {cores} cores")


def need_device(cores: int) -> None:
    """What loading on a device meets."""
    here = machine()
    if not here["devices"]:
        refuse(quoted("no-device"))
    family = here["instance"].partition(".")[0]
    if cores > here["devices"]:
        refuse(f"[simulator] {cores} cores of {here['devices']}")
    if family.startswith("trn1") and cores not in (1, 2, 8, 16) and cores % 32:
        refuse(quoted("topology"))
