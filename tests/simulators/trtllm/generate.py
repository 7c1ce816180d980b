"""Writes `tables/`: what the real tools' argument parsers accept, read from their source.

usage: generate.py --flags TRTLLM-BUILD-FLAGS.json --tree VERSION=COMMIT=FOLDER ...
                   --lmi VERSION=COMMIT=trt_llm_partition.py ...

A FOLDER is TensorRT-LLM's `examples` at COMMIT. Every `add_argument` call is read from the syntax
tree; nothing is typed. A value that is no literal is kept as its source text under `expression`.
Each table's header has the source, its commit and the sha256 of the file that was read here: for
trtllm-build, whose parser is made at run time, the parsers that were walked as JSON.
"""

import argparse
import ast
import hashlib
import json
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "tables"
# What the walked parsers of --flags were walked from: build.py, then plugin.py where it differs.
BUILD = "NVIDIA/TensorRT-LLM tensorrt_llm/commands/build.py, plugin/plugin.py"
COMMITS = {
    "0.12.0": "bfc50a71, be9cd719",
    "0.20.0": "a451bf93888ef588251268516ac6cd4be0a124c5 (a fork that holds the 0.20.0 text)",
    "1.2.0": "65f1d1536e18aea3380e6e270e00895a709333eb, c20322ffd3dc",
}


def read_parser(path: Path) -> dict[str, dict[str, Any]]:
    """The options of the argument parser that a script builds, by their first name."""
    options: dict[str, dict[str, Any]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr != "add_argument":
            continue
        names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        names.sort(key=lambda name: not name.startswith("--"))
        entry: dict[str, Any] = {"aliases": names[1:]}
        for keyword in node.keywords:
            if keyword.arg in {
                "type",
                "default",
                "choices",
                "nargs",
                "const",
                "action",
                "required",
            }:
                entry[keyword.arg] = _value(keyword.value)
        options[names[0]] = entry
    return options


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.Name):
            return {"name": node.id}
        return {"expression": ast.unparse(node)}


def header(source: str, commit: str, path: Path) -> dict[str, str]:
    """Where a table comes from."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"source": source, "commit": commit, "sha256": digest}


def write(name: str, content: dict[str, Any]) -> None:
    """One table, keys in order."""
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    (TABLES / f"{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Write every table anew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flags", type=Path)
    parser.add_argument("--tree", action="append", default=[])
    parser.add_argument("--lmi", action="append", default=[])
    args = parser.parse_args()
    if args.flags:
        flags = json.loads(args.flags.read_bytes())
        for version, commit in COMMITS.items():
            entries = {
                name: {key: value for key, value in entry.items() if key != "help_short"}
                for name, entry in flags[version].items()
            }
            found = header(BUILD, commit, args.flags)
            write(f"trtllm-build-{version}", {"header": found, "options": entries})
    for tree in args.tree:
        version, commit, folder = tree.split("=")
        scripts = {}
        for path in sorted(Path(folder).glob("*/*.py")):
            if path.name not in {"convert_checkpoint.py", "quantize.py"}:
                continue
            source = f"NVIDIA/TensorRT-LLM examples/{path.parent.name}/{path.name}"
            scripts[f"{path.parent.name}/{path.name}"] = {
                "header": header(source, commit, path),
                "options": read_parser(path),
            }
        write(f"scripts-{version}", scripts)
    for each in args.lmi:
        version, commit, file = each.split("=")
        source = "deepjavalibrary/djl-serving serving/docker/partition/trt_llm_partition.py"
        found = header(source, commit, Path(file))
        write(f"partition-{version}", {"header": found, "options": read_parser(Path(file))})


if __name__ == "__main__":
    main()
