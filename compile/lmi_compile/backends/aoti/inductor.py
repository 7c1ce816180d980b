"""Export to shared library, with the target's instruction set instead of this machine's."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: TID253 - imported by the compile worker only
from torch._inductor import config  # noqa: TID253 - the same
from torch._inductor import cpu_vec_isa as sets  # noqa: TID253 - the same

from lmi_compile.backends.aoti import few_rows
from lmi_compile.backends.aoti.export import Exported
from lmi_compile.errors import EnvironmentFault, ToolFailed

_PLANNED_THREADS = 8  # loops are split as for so many; how many run is decided at load
_ALL = tuple(sets.supported_vec_isa_list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the library may use of a processor.

    Attributes:
        march: gcc's `-march`.
        simdlen: width in bits of the vectors that Inductor writes out.
        draft: the code around the loops is not optimised.
        cuda: the graph runs on a CUDA device, whose kernels go into the library.
    """

    march: str
    simdlen: int
    draft: bool = False
    cuda: bool = False

    def options(self, library: Path) -> dict[str, object]:
        """Inductor's settings for a library at `library` without any constants in it.

        Settings that this torch does not know yet are left out (2.7.1 and 2.11.0 lack some); how
        the processor is named then is `compile_for`'s matter.
        """
        known = config.get_config_copy()
        return {name: value for name, value in self._wanted(library).items() if name in known}

    def _wanted(self, library: Path) -> dict[str, object]:
        return {
            "aot_inductor.compile_wrapper_opt_level": "O0" if self.draft else "O1",
            "aot_inductor.enable_line_tables": False,
            "aot_inductor.output_path": str(library),
            "aot_inductor.package_constants_in_so": False,
            # Making them costs twice what four compilations save by them (measured: 31 s CPU
            # of g++ with them, 16 s without).
            "aot_inductor.precompile_headers": False,
            "compile_threads": 1,
            # Else the cores that are free while compiling are written into the loops.
            "cpp.dynamic_threads": True,
            "cpp.threads": _PLANNED_THREADS,
            "cpp.march": self.march,
            "cpp.simdlen": self.simdlen,
            # gcc knows these instruction sets; without this Inductor builds a library for each.
            "cpp.vec_isa_ok": True,
            # They would name operations by the address of a function in this process, so that no
            # two builds were alike; what a graph returns is measured, what it is given checked.
            "alignment_asserts": False,
            "size_asserts": False,
            # Else vectors of up to 8 numbers become code, and no checkpoint could bring them.
            "always_keep_tensor_constants": True,
            **({"aot_inductor.embed_kernel_binary": True} if self.cuda else {}),
        }


def require_vectors(target: Target) -> str:
    """The name of the vector instruction set that Inductor uses for `target` from now on.

    Inductor would try out every set that this processor has, a small library each; it is told of
    those with the target's width only.

    Raises:
        EnvironmentFault: It knows none, or this processor has none of that width: Inductor would
            silently write scalar code.
    """
    sets.supported_vec_isa_list[:] = [one for one in _ALL if one.bit_width() == target.simdlen]
    sets.valid_vec_isa_list.cache_clear()
    with config.patch(target.options(Path("unused"))):
        chosen = sets.pick_vec_isa()
        if not chosen:
            what = f"this processor has no {target.simdlen}-bit vectors to compile for"
            raise EnvironmentFault(what, "", "build on a machine of the target's kind")
        return str(chosen)


def require_compiler() -> str:
    """The C++ compiler's own first line about itself.

    Raises:
        EnvironmentFault: There is none.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        what = f"no C++ compiler: {compiler} is not on PATH"
        raise EnvironmentFault(what, "AOTInductor writes C++", "install g++, or set CXX")
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    if told.returncode != 0:
        what = f"{compiler} --version failed"
        raise EnvironmentFault(what, told.stderr.strip(), "repair the compiler, or set CXX")
    return told.stdout.splitlines()[0]


def compile_for(target: Target, scratch: Path) -> None:
    """Sees to it that the C++ compiler compiles for `target`, not for this machine.

    Torch 2.13's Inductor has a setting for that. 2.7.1's and 2.11.0's say `-march=native`; of
    several, gcc takes the last, which a script that stands for the compiler adds.

    Args:
        target: What to compile for.
        scratch: Where the script goes; its path enters the names of kernels.
    """
    if "cpp.march" in config.get_config_copy():
        return
    script = scratch / "cxx"
    script.write_text(compiler_script(target.march), encoding="utf-8")
    script.chmod(0o755)
    config.cpp.cxx = (None, str(script))


def compiler_script(march: str) -> str:
    """A script that is the C++ compiler for a processor by gcc's name."""
    return f'#!/bin/sh\nexec {os.environ.get("CXX", "g++")} "$@" -march={march}\n'


def compile_to(
    exported: Exported, library: Path, target: Target, kernels: Path | None = None
) -> None:
    """Compiles a traced graph to the shared library at `library`.

    Args:
        exported: the graph.
        library: where it goes.
        target: what it may use of a processor.
        kernels: where `few_rows.build` was, for a graph that calls the kernel.

    Raises:
        ToolFailed: Inductor or the C++ compiler failed.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    graph = exported.program.module(check_guards=False)
    linked = few_rows.options(kernels) if kernels is not None else {}
    try:
        with torch.no_grad():
            torch._inductor.aot_compile(  # noqa: SLF001 - AOTInductor has no public entry
                graph,
                exported.example,
                options={**target.options(library), **linked},
            )
    except Exception as error:
        what = "AOTInductor could not compile the graph"
        fix = "see the step's log for the compiler's own messages"
        raise ToolFailed(what, f"{type(error).__name__}: {error}", fix) from error
    if not library.is_file():
        what = "AOTInductor reported success and wrote no library"
        raise ToolFailed(what, f"expected {library}", "report it with the step's log")
