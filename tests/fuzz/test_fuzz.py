"""A small part of `make fuzz` in every run, and the mutator's own honesty."""

import random
import subprocess
import sys
from pathlib import Path

from mutate import damaged

FUZZ = Path(__file__).with_name("fuzz.py")


def test_no_damaged_input_does_harm(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--inputs", "1500", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0, done.stdout + done.stderr
    assert last.startswith("fuzz: 15")
    assert last.endswith(" inputs, 0 tracebacks, 0 hangs, 0 over memory")


def test_damage_is_damage_and_repeats_by_seed() -> None:
    sample = b'{"a": [1, 2, {"b": "c"}], "d": null}'
    made = [damaged(sample, b"other", random.Random(seed)) for seed in range(300)]
    again = [damaged(sample, b"other", random.Random(seed)) for seed in range(300)]
    assert made == again
    assert sum(one != sample for one in made) > 280
    assert len(set(made)) > 200
