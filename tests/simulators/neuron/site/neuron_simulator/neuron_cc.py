"""SIMULATOR of Inf1's `neuron-cc`, and of the flags that torch_neuron.trace passes on."""

import argparse
import sys

from neuron_simulator import base

_OWN = ("--framework", "--io-config", "--output")


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        version = base.table("hardware")["releases"]["inf1"]["neuron-cc"]
        sys.stdout.write(f"Neuron Compiler version {version}+simulated\n")
        return 0
    parse(arguments[1:], inside_trace=False)
    return 0


def parse(flags: list[str], *, inside_trace: bool) -> argparse.Namespace:
    """Refuse what the page does not know, and words that exclude one another."""
    table = base.table("neuron-cc")
    known = {
        name: spec for name, spec in table["flags"].items() if not (inside_trace and name in _OWN)
    }
    parser = argparse.ArgumentParser(prog="neuron-cc", allow_abbrev=False)
    base.parser_of(known, parser)
    if not inside_trace:
        parser.add_argument("file_names", nargs="+")
    asked = parser.parse_args(flags)
    words = asked.fast_math if isinstance(asked.fast_math, list) else [asked.fast_math]
    for group in known["--fast-math"]["exclusive"]:
        if len(set(words) & set(group)) > 1:
            parser.error(f"argument --fast-math: {' and '.join(group)} exclude one another")
    cores, spec = asked.neuroncore_pipeline_cores, known["--neuroncore-pipeline-cores"]
    if not spec["min"] <= cores <= spec["max"]:
        parser.error(f"argument --neuroncore-pipeline-cores: {spec['min']} to {spec['max']}")
    return asked
