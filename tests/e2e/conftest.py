"""The command with a home of its own, and the real model that flows are built on."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from lmi import Lmi, SmolLM2
from once import once
from s3servers import Server


@pytest.fixture
def lmi(tmp_path: Path) -> Lmi:
    return Lmi(home=tmp_path)


@pytest.fixture(scope="session")
def null(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`null-demo`, built once: `lmi`, its home, and `built`, what `--json` printed."""

    def make(home: Path) -> SimpleNamespace:
        lmi = Lmi(home=home)
        ended = lmi("null-demo", "--json")
        assert ended.code == 0, ended.err
        return SimpleNamespace(lmi=lmi, built=ended.json())

    return once(tmp_path_factory, "null", make)


@pytest.fixture
def after_null(null: SimpleNamespace, lmi: Lmi) -> Lmi:
    """The command in a home of its own where `null-demo` has been built."""
    shutil.copytree(null.lmi.home, lmi.home, symlinks=True, dirs_exist_ok=True)
    return lmi


@pytest.fixture
def server(seaweed_server: Server) -> Server:
    """A real S3 server."""
    return seaweed_server


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> SmolLM2:
    """SmolLM2-135M-Instruct through the whole flow, once per run; minutes."""
    return once(tmp_path_factory, "smollm2", SmolLM2.build)
