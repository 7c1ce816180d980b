"""Shows how far a registry is with what a verb asks of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from lmi_artifacts.registry import Registry
from lmi_compile.console import Console
from lmi_compile.meter import Meter


@contextmanager
def meter(
    console: Console, registry: Registry, label: str, total: int | None = None
) -> Iterator[None]:
    """Show the progress of a registry that reports it."""
    if console.quiet or not hasattr(registry, "progress"):
        yield
        return
    before = registry.progress
    with reading(console, label, total) as told:
        registry.progress = told
        try:
            yield
        finally:
            registry.progress = before


@contextmanager
def reading(console: Console, label: str, total: int | None) -> Iterator[Meter | None]:
    """Show how far something is that reports bytes; None where nobody wants to see it."""
    if console.quiet:
        yield None
        return
    shown = Meter(console, label, total)
    try:
        yield shown
    finally:
        shown.end()
