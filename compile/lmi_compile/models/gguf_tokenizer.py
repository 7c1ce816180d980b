r"""What transformers loses of a GGUF's tokenizer, put back; the rest checked against the file.

A byte-level vocabulary's merges were learned on text that had been split in one way, which GGUF
names in `tokenizer.ggml.pre` (llama.cpp, src/llama-vocab.cpp). transformers 5.23 knows some of
the names and falls back to GPT-2's split for all others, without a word: SmolLM2's "\n\n  42"
then becomes other tokens than it was trained on.
"""

import json
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer  # noqa: TID253 - imported for a GGUF only, by the worker
from transformers.integrations.gguf.gguf_tokenizer_mapping import (  # noqa: TID253 - the same
    GGUF_PRE_TOKENIZER_SPLITS,
)

from lmi_compile.errors import ModelFault
from lmi_compile.models.gguf_header import GgufHeader

Split = Literal["as converted", "digits"]

# llama.cpp splits these by \p{N} first, then as GPT-2 does.
_DIGITS_THEN_GPT2 = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
_GPT2 = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion"})
_TOKENIZER = "tokenizer.json"
_TEMPLATE = "chat_template.jinja"


def split_of(header: GgufHeader) -> Split:
    """How the converted tokenizer must be changed.

    Raises:
        ModelFault: the file's split is one that nobody here knows how to restore.
    """
    if header.text("tokenizer.ggml.model") != "gpt2":
        return "as converted"
    name = header.text("tokenizer.ggml.pre")
    if name in _DIGITS_THEN_GPT2:
        return "digits"
    if name in _GPT2 or name in GGUF_PRE_TOKENIZER_SPLITS:
        return "as converted"
    raise ModelFault(
        what=f"the GGUF's tokenizer splits text as {name!r}, which cannot be restored",
        why="transformers would split as GPT-2 does, and prompts would become other tokens",
        fix="use the model's safetensors directory with its own tokenizer.json",
    )


def repair_tokenizer(out: Path, split: Split, header: GgufHeader) -> None:
    """Puts back the digits' split and the chat template where they were lost."""
    if split == "digits":
        path = out / _TOKENIZER
        content = json.loads(path.read_text(encoding="utf-8"))
        digits = {"type": "Digits", "individual_digits": True}
        content["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [digits, content["pre_tokenizer"]],
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    template = header.text("tokenizer.chat_template")
    if template is not None:
        (out / _TEMPLATE).write_text(template, encoding="utf-8")


def check_tokenizer(out: Path, header: GgufHeader, vocab_size: int) -> None:
    """Compares the saved tokenizer with what the file says of it.

    Raises:
        ModelFault: another number of tokens, a BOS more or less, or text that does not survive.
    """
    tokenizer: Any = Tokenizer.from_file(str(out / _TOKENIZER))
    expected = header.array_lengths.get("tokenizer.ggml.tokens")
    found = tokenizer.get_vocab_size()
    if found != expected or found > vocab_size:
        why = f"it has {found} tokens, the GGUF {expected}, the model {vocab_size}"
        raise _differs(why)
    adds_bos = header.flag("tokenizer.ggml.add_bos_token")
    bos = header.integer("tokenizer.ggml.bos_token_id")
    ids = tokenizer.encode("The 12  words").ids
    if adds_bos is not None and bos is not None and (ids[:1] == [bos]) is not adds_bos:
        why = f"a text's first token is {ids[:1]}, add_bos_token is {adds_bos}"
        raise _differs(why)
    if adds_bos is False and tokenizer.decode(ids) != "The 12  words":
        why = "a text does not come back from its tokens"
        raise _differs(why)


def _differs(why: str) -> ModelFault:
    return ModelFault(
        what="the converted tokenizer is not the GGUF's",
        why=why,
        fix="use the model's safetensors directory with its own tokenizer.json",
    )
