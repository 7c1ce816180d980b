"""One server over the tiny model that is compiled for three sequences, and its reference."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from served import Served, seal, serving

Greedy = Callable[[str, int], list[int]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the compiled package waits for a compiler."""
    for item in items:
        if {"tree", "server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tree(built_for_three: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seal(built_for_three.package, tmp_path_factory.mktemp("sealed") / "tree")


@pytest.fixture(scope="session")
def server(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tree, home=tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture(scope="session")
def greedy(built_for_three: SimpleNamespace) -> Greedy:
    """The Hugging Face model's own continuation: prompt text, tokens -> ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - only here

    model = AutoModelForCausalLM.from_pretrained(built_for_three.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(built_for_three.model)

    @cache
    def continued(text: str, new: int) -> list[int]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        whole = model.generate(ids, max_new_tokens=new, do_sample=False)[0]
        found: list[int] = whole[ids.shape[1] :].tolist()
        return found

    return continued


@pytest.fixture(scope="session")
def text_of(built_for_three: SimpleNamespace) -> Callable[[list[int]], str]:
    """Ids as text, control tokens left out."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - only here

    tokenizer = AutoTokenizer.from_pretrained(built_for_three.model)

    def decoded(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    return decoded
