"""The packaged loader of the null backend: text out of a table, one byte at a time."""

import json
import sys
from pathlib import Path


class Loaded:
    """A packaged table, opened for reading.

    Args:
        tree: the served tree.
    """

    def __init__(self, tree: Path) -> None:
        settings = json.loads((tree / "runtime.json").read_bytes())
        self.max_input_len: int = settings["max_input_len"]
        self.table = (tree / "table.dat").read_bytes()
        if len(self.table) != settings["table_bytes"]:
            message = f"table.dat holds {len(self.table)} bytes, not {settings['table_bytes']}"
            raise ValueError(message)

    def generate(self, prompt: str, max_new_tokens: int) -> list[int]:
        """`max_new_tokens` ids in 0..255 that follow `prompt`."""
        state = 0
        for byte in prompt.encode()[-self.max_input_len :]:
            state = (state * 31 + byte) % len(self.table)
        ids = []
        for _ in range(max_new_tokens):
            ids.append(self.table[state])
            state = (state * 31 + ids[-1]) % len(self.table)
        return ids


def main(prompts: str, out: str) -> None:
    """Answer every prompt of a file, as a probe does."""
    loaded = Loaded(Path(__file__).parent)
    asked = json.loads(Path(prompts).read_bytes())
    answers = [loaded.generate(text, asked["tokens"]) for text in asked["prompts"]]
    Path(out).write_text(json.dumps({"generated_ids": answers}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
