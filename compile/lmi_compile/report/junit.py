"""A verdict as JUnit XML, which every CI system shows."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from lmi_verify.measurements import METRICS
from lmi_verify.verdict import Check, Verdict


def junit(named: Sequence[tuple[str, Verdict | str | None]]) -> str:
    """One test suite for each verdict, one test case for each gate and one for the decision.

    A failed gate is a failure; a verdict that decides nothing (INFEASIBLE) is an error; one that
    did not run (UNVERIFIED) is skipped. A text in a verdict's place says why a build has none, and
    is an error; None is a build that ended before any.
    """
    root = ET.Element("testsuites", name="lmi-compile verify")
    for name, verdict in named:
        match verdict:
            case Verdict():
                _suite(root, name, verdict)
            case str() | None:
                _without(root, name, verdict)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _without(root: ET.Element, name: str, why: str | None) -> None:
    counts = {"tests": "1", "failures": "0", "errors": str(int(why is not None))}
    attributes = {"name": _legal(name), **counts, "skipped": str(int(why is None))}
    suite = ET.SubElement(root, "testsuite", attributes)
    case = ET.SubElement(suite, "testcase", classname=_legal(name), name="build")
    if why is None:
        ET.SubElement(case, "skipped", message="it ended before a verdict")
    else:
        ET.SubElement(case, "error", message=_legal(why))


def _suite(root: ET.Element, name: str, verdict: Verdict) -> None:
    failed = [check for check in verdict.checks if not check.passed]
    counts = {
        "tests": len(verdict.checks) + 1,
        "failures": len(failed) + (verdict.decision in {"REGRESSION", "ANOMALOUS"}),
        "errors": int(verdict.decision == "INFEASIBLE"),
        "skipped": int(verdict.decision == "UNVERIFIED"),
    }
    attributes = {key: str(value) for key, value in counts.items()}
    suite = ET.SubElement(root, "testsuite", {"name": _legal(name), **attributes})
    case = ET.SubElement(suite, "testcase", classname=_legal(name), name="decision")
    outcome = {
        "REGRESSION": "failure",
        "ANOMALOUS": "failure",
        "INFEASIBLE": "error",
        "UNVERIFIED": "skipped",
    }.get(verdict.decision)
    if outcome:
        told = ET.SubElement(case, outcome, message=_legal(verdict.summary))
        told.text = _legal("\n".join(verdict.findings))
    for check in verdict.checks:
        _gate(suite, name, check)


def _gate(suite: ET.Element, name: str, check: Check) -> None:
    case = ET.SubElement(suite, "testcase", classname=_legal(name), name=check.metric)
    if not check.passed:
        title = METRICS[check.metric].title if check.metric in METRICS else check.metric
        told = ET.SubElement(case, "failure", message=_legal(check.reason), type=_legal(title))
        told.text = _legal(f"limit from: {check.source}")


def _legal(text: str) -> str:
    """The text without characters that XML 1.0 has no way to write."""
    return "".join(each if each in "\t\n\r" or each.isprintable() else "\ufffd" for each in text)
