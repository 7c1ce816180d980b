"""SIMULATOR of `neuronx-cc compile`, and of the flags that torch_neuronx.trace passes on."""

import argparse
import re
import sys
from pathlib import Path

from neuron_simulator import base, files


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"NeuronX Compiler version {files.compiler_version()}+simulated\n")
        return 0
    if arguments[:1] != ["compile"]:
        base.refuse("[simulator] neuronx-cc compile | --version")
    asked = parse(arguments[1:], inside_trace=False)
    missing = [name for name in asked.model_files if not Path(name).is_file()]
    if missing:
        base.refuse(f"[simulator] no such file: {', '.join(missing)}")
    base.compile_graph(1)
    Path(asked.output).write_bytes(base.NOT_A_NEFF)
    return 0


def parse(flags: list[str], *, inside_trace: bool) -> argparse.Namespace:
    """Refuse what the page does not know; inside a trace no file and no framework are named."""
    table = base.table("neuronx-cc")
    known = dict(table["flags"])
    for flag in flags:
        name = flag.partition("=")[0]
        if name in table["removed"]:
            base.refuse(
                f"neuronx-cc: error: unrecognized arguments: {flag} ({table['removed'][name]})"
            )
        if name in table["wrapper_only"]:
            base.refuse(f"neuronx-cc: error: unrecognized arguments: {flag}")
    if inside_trace:
        del known["--framework"]
    parser = argparse.ArgumentParser(prog="neuronx-cc", allow_abbrev=False)
    verbose = dict(known.pop("--verbose"))
    verbose.pop("choices")
    downcast = {**known.pop("--implicit-integer-downcast"), "type": "str"}
    base.parser_of({**known, "--verbose": verbose, "--implicit-integer-downcast": downcast}, parser)
    if not inside_trace:
        parser.add_argument("model_files", nargs="+")
    flags = [re.sub(r"^-O([123])$", r"--optlevel=\1", flag) for flag in flags]
    asked = parser.parse_args(flags)
    lnc = asked.logical_nc_config
    chosen = any(flag.startswith(("--lnc", "-lnc", "--logical-nc-config")) for flag in flags)
    if chosen and lnc == 2 and not asked.target.startswith(("trn2", "trn3")):
        base.refuse(f"NCC_EARG001: {base.table('refusals')['codes']['NCC_EARG001']}")
    return asked
