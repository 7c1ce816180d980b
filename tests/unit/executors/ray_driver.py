"""A driver of its own: `ray_driver.py SPEC.json` runs a chain of steps on the cluster.

The spec holds `cache`, `address` and `steps`: name, code, resources, outputs, retry; where outputs
travel through a registry, its URL as `store`; and, where somebody shall cancel, `cancel`: the file
that says when. Each line it prints is one JSON value,
written at once: an event, and at last `ended`.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lmi_artifacts.digest import digest_json
from lmi_artifacts.registry import open_registry
from lmi_compile.cli.app import _interrupt
from lmi_compile.errors import CompileError, exit_code_of, to_failure
from lmi_compile.executors.ray_cluster import RayCluster
from lmi_compile.plan import Plan, PlannedStep
from lmi_compile.settings import load_settings
from lmi_compile.step import Argv, Resources, Step
from lmi_compile.stepping import Tools, run_steps
from lmi_compile.workspace import Workspace


def say(**what: Any) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


def plan_of(steps: list[dict[str, Any]]) -> Plan:
    planned: list[PlannedStep] = []
    key = ""
    for item in steps:
        step = Step(
            name=item["name"],
            run=Argv(argv=(sys.executable, "-c", item["code"], "{out}", *item.get("more", ()))),
            needs=(planned[-1].step.name,) if planned else (),
            outputs=tuple(item.get("outputs", ())),
            resources=Resources(**item.get("resources", {})),
            retry=tuple(item.get("retry", ())),
        )
        key = digest_json([key, item]).hex
        planned.append(PlannedStep(step=step, key=key, ingredients={}))
    return Plan(order=None, backend=None, steps=tuple(planned), recipe={})  # type: ignore[arg-type]


def cancel_at(execute: RayCluster, sign: Path) -> None:
    while not sign.exists():
        time.sleep(0.05)
    execute.running.cancel()


def main(spec: dict[str, Any]) -> None:
    plan = plan_of(spec["steps"])
    cache = Path(spec["cache"])
    flags = {"ray_address": spec["address"], "ray_store": spec.get("store")}
    settings = load_settings({"executor": "ray", **flags})
    execute = RayCluster(settings=settings, tries=3)
    tools = Tools(
        workspace=Workspace(cache),
        execute=execute,
        registry=open_registry(str(cache / "registry")),
        emit=lambda event: say(event=type(event).__name__, said=getattr(event, "text", "")),
    )
    if "cancel" in spec:
        sign = Path(spec["cancel"])
        threading.Thread(target=cancel_at, args=(execute, sign), daemon=True).start()
    seconds: dict[str, float] = {}
    try:
        execute.prepare(plan)
        run_steps(plan, spec["steps"][-1]["name"], tools, seconds)
    except CompileError as error:
        say(ended=int(exit_code_of(error)), ran=[*seconds], **to_failure(error))
    else:
        records = {step.step.name: tools.workspace.record(step.key)["ran"] for step in plan.steps}
        say(ended=0, ran=[*seconds], records=records)


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, _interrupt)
    main(json.loads(Path(sys.argv[1]).read_bytes()))
