"""The answer as people read it: the verdict first, bars for memory, one table of placements."""

from collections.abc import Iterator, Mapping
from typing import cast

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.building import gigabytes

_WIDTH = 20  # with its label and figures, a bar fits a terminal of 60 columns
_KINDS = ("weights", "kv_cache", "activations", "logits", "runtime_reserve")
Section = Mapping[str, JSONValue]
UNKNOWN = "UNKNOWN"


def report(found: Section) -> Iterator[str]:
    """The lines of an answer, as `answer` made it."""
    yield from _verdict(found)
    if found["model"] is None:
        return
    yield from _memory(found)
    yield from _limits(found)
    yield from _speed(found)
    yield from _placements(found)
    yield from _changes(found)
    yield from _build(found)
    for other in _sections(found["other_backends"]):
        if other["choose"]:
            yield f"one would choose {other['backend']}: {other['why']}"


def bar(value: float, whole: float, width: int = _WIDTH) -> str:
    """A bar of `width` characters that is full at `whole`."""
    filled = round(width * min(1.0, value / whole)) if whole > 0 else 0
    return "#" * filled + "." * (width - filled)


def matrix_rows(rows: list[JSONValue]) -> Iterator[tuple[str, ...]]:
    """The cells of `--all-targets`."""
    for row in _sections(rows):
        name, device = str(row["instance_type"]), str(row["accelerator"] or UNKNOWN)
        backend = str(row["backend"] or "-")
        if not row["fits"]:
            state = "no" if row["fits"] is False else UNKNOWN
            yield name, device, backend, state, "-", "-", "-", str(row["why"])
            continue
        yield (
            name,
            device,
            backend,
            "yes",
            f"{row['tensor_parallel_degree']} x {row['replicas']}",
            _figure(row["max_batch_size_with_reserve"]),
            _figure(row["tokens_per_second"]),
            "",
        )


def _verdict(found: Section) -> Iterator[str]:
    words = {True: "fits", False: "DOES NOT FIT", None: f"fits: {UNKNOWN}"}
    fits = found["fits"]
    yield words[fits if isinstance(fits, bool) else None]
    for problem in _sections(found["problems"]):
        yield f"  problem  {problem['field']}: {problem['message']}"
    for warning in _sections(found["warnings"]):
        yield f"  note     {warning['field']}: {warning['message']}"


def _memory(found: Section) -> Iterator[str]:
    memory = cast("Mapping[str, JSONValue]", found["memory_per_rank"])
    total, capacity = _number(memory["total"]), memory["capacity"]
    whole = max(total, _number(capacity))
    yield "memory of one rank, with the asked batch at full length"
    for kind in _KINDS:
        size = _number(memory[kind])
        yield f"  {kind.replace('_', ' '):<16} {bar(size, whole)} {gigabytes(size):>9}"
    of = gigabytes(_number(capacity)) if capacity is not None else UNKNOWN
    yield f"  {'together':<16} {bar(total, whole)} {gigabytes(total):>9} of {of}"


def _limits(found: Section) -> Iterator[str]:
    yield (
        f"largest batch at the asked length: {_figure(found['max_batch_size_that_fits'])} beside "
        f"the weights alone, {_figure(found['max_batch_size_with_reserve'])} with every reserve; "
        f"longest sequences at the asked batch: {_figure(found['max_seq_len_that_fits'])}"
    )


def _speed(found: Section) -> Iterator[str]:
    roofline = cast("Section", found["roofline"])
    decode, knee = roofline["decode"], roofline["knee"]
    if roofline["prefill"] is None:
        missing = ", ".join(str(one) for one in cast("list[JSONValue]", roofline["unknown"]))
        yield f"roofline: {UNKNOWN} (no sourced figure for {missing})"
        return
    prefill = cast("Section", roofline["prefill"])
    yield (
        f"ceiling of prefill: {_figure(prefill['compute_bound_tokens_per_second'])} tokens/s by "
        f"arithmetic; critical batch {_figure(found['critical_batch_size'])}"
    )
    if isinstance(decode, Mapping) and isinstance(knee, Mapping):
        yield (
            f"ceiling of decode at the asked batch: "
            f"{_figure(decode['memory_bound_tokens_per_second'])} tokens/s by memory, "
            f"{_figure(decode['compute_bound_tokens_per_second'])} by arithmetic; the knee is at "
            f"{_figure(knee['batch_size'])} sequences: {knee['why']}"
        )
    expected = found["expected"]
    if isinstance(expected, Mapping):
        cost = expected["usd_per_million_tokens"]
        price = "" if cost is None else f", {_number(cost):.2f} USD for a million tokens"
        yield (
            f"expected of a server: {_figure(expected['tokens_per_second'])} tokens/s from "
            f"{expected['replicas']} replica(s){price}"
        )


def _placements(found: Section) -> Iterator[str]:
    ways = list(_sections(found["placements"]))
    if len(ways) < 2:  # noqa: PLR2004 - one way is no choice
        return
    yield "degree x replicas, one request's ms/token, tokens/s at the asked batch, their ceiling"
    latency, rate = found["best_for_latency"], found["best_for_throughput"]
    for way in ways:
        degree = way["tensor_parallel_degree"]
        marks = [
            word
            for word, chosen in (("best latency", latency), ("best throughput", rate))
            if isinstance(chosen, Mapping) and chosen["tensor_parallel_degree"] == degree
        ]
        alone = way["seconds_per_token_alone"]
        yield (
            f"{degree!s:>4} x {way['replicas']!s:<3} {'fits' if way['fits'] else 'no':<4} "
            f"{UNKNOWN if alone is None else f'{1000 * _number(alone):.1f}':>8} "
            f"{_figure(way['tokens_per_second']):>8} "
            f"{_figure(way['ceiling_tokens_per_second']):>8}  {', '.join(marks)}"
        ).rstrip()


def _changes(found: Section) -> Iterator[str]:
    changes = list(_sections(found["suggestions"]))
    if changes:
        yield "what would do, smallest change first"
    for number, change in enumerate(changes, 1):
        fields = cast("Section", change["set"])
        flags = " ".join(f"--set {name}={value}" for name, value in fields.items())
        yield f"  {number}. {change['change']}   ({flags})"


def _build(found: Section) -> Iterator[str]:
    build = cast("Section", found["build"])
    download = build["download_bytes"]
    size = UNKNOWN if download is None else gigabytes(_number(download))
    yield (
        f"build: download {size}, artifact "
        f"{gigabytes(_number(build['artifact_bytes']))}, host memory "
        f"{gigabytes(_number(build['host_memory_bytes']))}, disk "
        f"{gigabytes(_number(build['build_disk_bytes']))}"
    )
    load = build["load_bytes"]
    if load is not None:
        yield f"serving takes {gigabytes(_number(load))} of host memory at its peak"
    device = cast("list[JSONValue]", found["device_steps"])
    needs = ", ".join(str(step) for step in device) if device else "no step"
    yield f"needs the accelerator: {needs}"


def _figure(value: JSONValue) -> str:
    if not isinstance(value, int | float):
        return UNKNOWN
    return f"{value:,.0f}"


def _number(value: JSONValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _sections(value: JSONValue) -> Iterator[Section]:
    for one in cast("list[JSONValue]", value):
        yield cast("Section", one)
