"""More than fifty right builds, which the judge must accept."""

from dataclasses import dataclass

from catalogue import FAULTS


@dataclass(frozen=True, kw_only=True)
class Clean:
    """A right build, run in one of the ways that change the order of additions.

    Attributes:
        model, build: What is built.
        threads: Of the matrix library.
        groups: Into how many batches the prompts that are asked together are divided.
    """

    model: str
    build: str
    threads: int = 1
    groups: int = 1

    def __str__(self) -> str:
        return f"{self.model} {self.build}, {self.threads} threads, {self.groups} batches"


_SMOLLM2 = tuple(
    Clean(model="smollm2", build=build, threads=threads, groups=groups)
    for build in ("float32", "bfloat16", "int8")
    for threads, groups in ((1, 1), (2, 2), (1, 4))
)
_VARIANTS = tuple(
    Clean(model=fault.model, build=build)
    for fault in FAULTS
    if fault.model != "smollm2"
    for build in fault.builds
)
_TINY = tuple(
    Clean(model=f"tiny-{seed}", build=build, threads=1 + seed % 2, groups=1 + seed % 3)
    for seed in range(10)
    for build in ("float32", "bfloat16", "int8")
)
_FP8 = tuple(Clean(model="smollm2", build="fp8", groups=groups) for groups in (1, 2, 4))
_TINY_FP8 = tuple(Clean(model=f"tiny-{seed}", build="fp8", groups=2) for seed in range(3))
CLEANS = (*_SMOLLM2, *_VARIANTS, *_TINY, *_FP8, *_TINY_FP8)
