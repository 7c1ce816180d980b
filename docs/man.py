"""Manual pages in out/man, one for each verb: `man -M out/man lmi-compile`."""

import os
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from click_man.core import write_man_pages

from lmi_compile.cli.app import command


def main(out: Path) -> None:
    """Write every page under `out`/man1.

    The date is SOURCE_DATE_EPOCH's where that is set, so that a package can be made again.
    """
    folder = out / "man1"
    folder.mkdir(parents=True, exist_ok=True)
    ctx = click.Context(command, info_name="lmi-compile")
    found = {verb: command.get_command(ctx, verb) for verb in command.list_commands(ctx)}
    command.commands = {verb: one for verb, one in found.items() if one}
    made = datetime.fromtimestamp(float(os.environ.get("SOURCE_DATE_EPOCH", "0")) or _now(), UTC)
    write_man_pages(
        "lmi-compile",
        command,
        version=version("lmi-compile"),
        target_dir=str(folder),
        date=f"{made:%Y-%m-%d}",
    )


def _now() -> float:
    return datetime.now(UTC).timestamp()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
