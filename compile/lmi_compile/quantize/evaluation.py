"""Worker function: the float32 reference that a checkpoint is judged against.

Its text is the half of Python's language reference that never calibrates, in windows of 256
tokens: the text that the gates of quantised formats were measured on (docs/checkpoints.md).
"""

from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import digest_bytes
from lmi_compile.quantize.calibration import evaluation_text
from lmi_verify.jsonread import JSONValue
from lmi_verify.prompts import Prompt, PromptSet
from lmi_verify.reference import write_reference

VERSION = "python-language-reference"
_PROMPT_TOKENS = 192
_FORCED_TOKENS = 64
_CHARACTERS = 2048  # more than any tokenizer needs for a window


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes the four files of a reference.

    Args:
        params: `trust_remote_code`, and how many `windows`.
        inputs: `model`.
        out: an empty directory.

    Raises:
        ModelUnreadable: the model cannot be loaded or run.
    """
    write_reference(
        evaluation_prompts(int(str(params["windows"]))),
        {
            "max_input_len": _PROMPT_TOKENS,
            "max_seq_len": _PROMPT_TOKENS + _FORCED_TOKENS,
            "forced_tokens": _FORCED_TOKENS,
            "trust_remote_code": params["trust_remote_code"],
        },
        inputs["model"],
        out,
    )


def evaluation_prompts(windows: int) -> PromptSet:
    """Two or more windows, evenly spread over the text."""
    text = evaluation_text()
    step = (len(text) - _CHARACTERS) // (windows - 1)
    prompts = tuple(
        Prompt(
            id=f"window-{number}",
            area="Python's language reference",
            fit="whole",
            corpus=True,
            text=text[number * step : number * step + _CHARACTERS],
        )
        for number in range(windows)
    )
    joined = "\0".join(prompt.text for prompt in prompts)
    digest = str(digest_bytes(joined.encode()))
    return PromptSet(version=VERSION, digest=digest, prompts=prompts)
