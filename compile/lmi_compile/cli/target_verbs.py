"""The verb about instance types: targets."""

import click

from lmi_compile.cli.options import voice_options
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_recipes.instance import Instance, instance_names, read_instance


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--accelerator", metavar="WORD", help="Only those whose accelerator has WORD in it.")
@click.option("--family", metavar="WORD", help="Only this family, such as g5 or inf2.")
@click.option("--min-memory", type=click.IntRange(min=1), metavar="GB",
              help="Only with so much memory on one device.")  # fmt: skip
@click.option("--min-devices", type=click.IntRange(min=1), help="Only with so many devices.")
@click.option("--endpoint", is_flag=True, help="Only what an endpoint can have.")
@voice_options
def targets(
    names: tuple[str, ...],
    *,
    accelerator: str | None,
    family: str | None,
    min_memory: int | None,
    min_devices: int | None,
    endpoint: bool,
    console: Console,
) -> int:
    """List the instance types, or show those that are named."""
    every = (read_instance(name) for name in names or instance_names())
    word = (accelerator or "").lower()
    chosen = [
        one
        for one in every
        if (not word or (one.accelerator and word in one.accelerator.name.lower()))
        and (family is None or one.family == family)
        and (min_memory is None or _device_bytes(one) >= min_memory * 10**9)
        and (min_devices is None or one.devices >= min_devices)
        and (not endpoint or one.endpoint)
    ]
    if console.as_json:
        console.json([one.to_json() for one in chosen])
        return ExitCode.OK
    console.listing([_row(one) for one in chosen])
    return ExitCode.OK


def _device_bytes(one: Instance) -> int:
    return one.accelerator.memory_mib << 20 if one.accelerator else 0


def _row(one: Instance) -> tuple[str, ...]:
    device = one.accelerator
    if device is None:
        return (one.name, "UNKNOWN", "", "", "", "", "")
    bandwidth = "UNKNOWN" if device.memory_gbps is None else f"{device.memory_gbps:.0f} GB/s"
    return (
        one.name,
        f"{one.devices:>2} x {device.name}",
        f"sm_{device.sm}" if device.sm else f"NeuronCore-v{device.neuroncore}",
        f"{device.memory_mib / 1024:>6.1f} GiB",
        f"{bandwidth:>10}",
        f"host {(one.memory_mib or 0) / 1024:>5.0f} GiB",
        f"disk {one.local_storage_gb or 0:>5} GB",
    )
