"""Sealing: the packaged tree, plus serve-time knobs, plus the manifest of exactly that."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.container import CONTRACT as DJL_PYTHON
from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties, parse_properties
from lmi_artifacts.static_proof import broken_rules
from lmi_artifacts.tree import scan_tree
from lmi_compile.plan import Plan


def seal(plan: Plan, package: Path, tree: Path) -> Manifest:
    """Make the tree that is published, and say what is in it.

    Args:
        plan: what it was built by.
        package: the package step's outputs; left as they are.
        tree: created; big files are hard links where the file system can.

    Returns:
        the manifest; writing it beside the files is the registry's last act.

    Raises:
        PackageInvalid: the container would not serve this tree as it should.
    """
    shutil.copytree(package, tree, copy_function=_link)
    _add_runtime(tree / PROPERTIES_NAME, plan.order.recipe.runtime)
    serving = plan.backend.serving(plan.order)
    contract = str(serving.get("contract", DJL_PYTHON))
    problems = broken_rules(tree, contract)
    if problems:
        raise PackageInvalid(plan.order.recipe.name, problems)
    ancestors = plan.through("package")
    licences: list[JSONValue] = [*sorted(path.name for path in tree.glob("LICEN[CS]E*"))]
    return Manifest(
        name=plan.order.recipe.name,
        recipe=plan.recipe,
        toolchain=_toolchain(plan),
        build_key=plan.keys["package"],
        steps={planned.step.name: planned.key for planned in ancestors},
        serving=serving,
        licence={"files": licences} if licences else None,
        simulated=plan.order.toolchain.simulated,
        files=scan_tree(tree),
    )


def _add_runtime(path: Path, runtime: Mapping[str, object]) -> None:
    if not runtime:
        return
    properties = parse_properties(path.read_bytes())
    knobs = {f"option.{name}": _text(value) for name, value in sorted(runtime.items())}
    content = format_properties({**properties, **knobs})
    path.unlink()  # it may be a hard link into the workspace
    path.write_bytes(content)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toolchain(plan: Plan) -> dict[str, JSONValue]:
    identities = {
        planned.step.name: dict(planned.step.identity)
        for planned in plan.through("package")
        if planned.step.identity
    }
    return {"name": plan.order.toolchain.name, "identities": identities}


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target
