"""`make audit`: known vulnerabilities of what constraints.txt pins, by pip-audit.

An audit that could not ask says SKIPPED with the reason; it never says that nothing was found.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def main() -> int:
    """1 when something vulnerable is pinned, 0 when nothing is, or when it could not be asked."""
    command = ["pip-audit", "-r", str(CONSTRAINTS), "--no-deps", "--disable-pip", "-f", "json"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip_audit", *command[1:], "--timeout", "15"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"audit: SKIPPED: {(asked.stderr.strip().splitlines() or ['no answer'])[-1][:200]}")
        return 0
    unknown = [one["name"] for one in found if "skip_reason" in one]
    bad = [
        (one["name"], one["version"], flaw["id"], ", ".join(flaw["fix_versions"]) or "none yet")
        for one in found
        for flaw in one.get("vulns", ())
    ]
    for name, version, flaw, fixed in bad:
        print(f"{name} {version}: {flaw}; fixed in {fixed}")
    if len(unknown) == len(found):
        print(
            f"audit: SKIPPED: the service knows none of the {len(found)} packages; is it a mirror?"
        )
        return 0
    print(f"audit: {len(found) - len(unknown)} asked, {len(unknown)} unknown, {len(bad)} flaws")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
