"""What a SageMaker job starts: the step's command line, from the request beside this file.

It runs in the vendor's image with nothing but its Python. How the command ended is written where
SageMaker reads it: `failure` becomes a training job's FailureReason, `message` a processing job's
ExitMessage.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the command; its exit code is this one's."""
    request = json.loads((_HERE / "request.json").read_bytes())
    for folder in (request["out"], request["tmp"], request["output"]):
        Path(folder).mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, **request["env"])
    try:
        ended = subprocess.run(
            request["argv"], check=False, cwd=request["tmp"], env=environment
        ).returncode
    except FileNotFoundError as error:
        sys.stderr.write(str(error) + "\n")
        ended = 127
    code = ended if ended >= 0 else 128 - ended
    words = json.dumps({"exit": code})
    for name in ("message", "failure")[: 1 + bool(code)]:
        Path(request["output"], name).write_text(words, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
