"""A conversation as the text that the model was trained on: its own chat template."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError  # noqa: TID253 - `serve` alone imports this module
from jinja2.ext import loopcontrols  # noqa: TID253 - the same
from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: TID253 - the same

from lmi_artifacts.foreign import read_object
from lmi_compile.errors import ModelFault
from lmi_compile.serving.limits import Refused

_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class ChatTemplate:
    """The chat template of a packaged tree, if it has one.

    Rendered as transformers does it: sandboxed, blocks trimmed, with `raise_exception`,
    `strftime_now` and `tojson` (transformers/utils/chat_template_utils.py, 5.23).
    """

    def __init__(self, tree: Path) -> None:
        """Reads `chat_template.jinja`, else the one in `tokenizer_config.json`.

        Raises:
            ModelFault: The template is not Jinja.
        """
        described = read_object(tree / "tokenizer_config.json")
        self._tokens = {name: _token(described.get(name)) for name in _TOKENS}
        text = _text(tree, described)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        try:
            self._template = None if text is None else environment.from_string(text)
        except TemplateError as error:
            what = "the model's chat template cannot be read"
            raise ModelFault(what, str(error), "correct it and package the model again") from error

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt for the assistant's next words.

        Raises:
            Refused: There is no template, or it does not take these messages.
        """
        if self._template is None:
            raise Refused(400, "this model has no chat template; send a prompt instead")
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=True, tools=None, **self._tokens
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise Refused(
                400, f"the model's chat template refuses the messages: {error}"
            ) from error


def _text(tree: Path, described: Mapping[str, Any]) -> str | None:
    path = tree / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    told = described.get("chat_template")
    if isinstance(told, list):  # several by name
        told = {one["name"]: one["template"] for one in told}.get("default")
    return told if isinstance(told, str) else None


def _token(told: object) -> str:
    if isinstance(told, dict):
        told = told.get("content")
    return told if isinstance(told, str) else ""


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
