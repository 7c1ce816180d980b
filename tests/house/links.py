"""`make links`: every address that a file of this repository names for people still answers.

A link is broken when its server says that nothing is there. What could not be asked is SKIPPED with
the reason; it is never counted as good.
"""

import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
# A text that is nothing but an address is an identifier, such as a schema's, and no link.
_LINK = re.compile(r"(?<![\"'])https?://[\w.-]+\.[a-z]{2,}[^\s()<>\"'`|\\,{}\[\]]*")
_OURS = re.compile(r"example\.|amazonaws\.com|\.internal|\.local\b|^127\.")
_READ = {".md", ".py", ".yaml", ".toml"}
_GONE = {404, 410}
_SECONDS = 20


def named_links(root: Path = ROOT) -> dict[str, str]:
    """Each address with the first file that names it; tests and placeholders are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - any git will do
        cwd=root, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    found: dict[str, str] = {}
    for name in listed:
        path = root / name
        if path.suffix not in _READ or name.startswith("tests/") or not path.is_file():
            continue
        for link in _LINK.findall(path.read_text(encoding="utf-8")):
            if not _OURS.search(urlsplit(link).netloc):
                found.setdefault(link.rstrip(".;:"), name)
    return found


def ask(link: str) -> tuple[str, str]:
    """`good`, `broken` or `unasked`, and what the server or the network said."""
    request = urllib.request.Request(link, headers={"User-Agent": "lmi-compile links"})  # noqa: S310 - http only
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - as above
            return "good", str(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return ("broken" if error.code in _GONE else "unasked"), f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return "unasked", str(error)


def main() -> int:
    """1 when a link is broken."""
    links = named_links()
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(links, pool.map(ask, links), strict=True))
    for link, (state, said) in answers.items():
        if state != "good":
            word = "broken" if state == "broken" else "SKIPPED"
            print(f"{word}: {link} ({links[link]}): {said}")
    states = [state for state, _ in answers.values()]
    counts = ", ".join(f"{states.count(one)} {one}" for one in ("good", "broken", "unasked"))
    print(f"links: {len(states)} asked for: {counts}")
    return 1 if "broken" in states else 0


if __name__ == "__main__":
    sys.exit(main())
