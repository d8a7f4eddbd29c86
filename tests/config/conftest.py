"""Fixtures of the tests of settings: no file is there, and what is refused is one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gemstone_sync import MicroService


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``refusal(service, "--port", "x")``: the one line that it ends with."""

    def configure(service: MicroService, *words: str) -> str:
        with pytest.raises(SystemExit) as caught:
            service.configure(words)
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return str(err)

    return configure
