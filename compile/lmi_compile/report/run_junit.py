"""A matrix run as JUnit XML: a test case for each build, for every CI system's own view."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.report.records import builds_of, error_of, seconds_of, text_of

_AS = {
    "failed": "failure",
    "infeasible": "error",
    "invalid": "error",
    "quarantined": "skipped",
    "cancelled": "skipped",
    "interrupted": "skipped",
}


def run_junit(run: Mapping[str, JSONValue]) -> str:
    """One suite: failed builds fail, impossible ones are errors, what did not run is skipped."""
    builds = builds_of(run)
    marks = [_AS.get(text_of(build, "state"), "") for build in builds]
    counts = {
        "tests": str(len(builds)),
        "failures": str(marks.count("failure")),
        "errors": str(marks.count("error")),
        "skipped": str(marks.count("skipped")),
        "time": str(run.get("seconds", 0)),
    }
    root = ET.Element("testsuites", {"name": "lmi-compile matrix", **counts})
    stamp = text_of(run, "started").removesuffix("Z")
    suite = ET.SubElement(root, "testsuite", {"name": "matrix", "timestamp": stamp, **counts})
    for build, mark in zip(builds, marks, strict=True):
        _case(suite, build, mark)
    ET.indent(root)
    written: str = ET.tostring(root, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written}\n'


def _case(suite: ET.Element, build: Mapping[str, JSONValue], mark: str) -> None:
    attributes = {
        "classname": _legal(text_of(build, "target")),
        "name": _legal(text_of(build, "name")),
        "time": f"{seconds_of(build):.1f}",
    }
    case = ET.SubElement(suite, "testcase", attributes)
    if not mark:
        return
    error = error_of(build)
    message = error.get("what") or text_of(build, "reason") or text_of(build, "state")
    told = ET.SubElement(case, mark, {"message": _legal(message)})
    if mark != "skipped":
        told.set("type", _legal(error.get("kind", "")))
    told.text = _legal("\n".join(part for part in (error.get("why"), error.get("fix")) if part))


def _legal(text: str) -> str:
    """The text without characters that XML 1.0 has no way to write."""
    return "".join(each if each in "\t\n\r" or each.isprintable() else "\ufffd" for each in text)
