"""The tiny network as an ONNX bundle, and runners over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_formats
import tiny_models

from rtmw_edge.runtime import Runner, load


@pytest.fixture()
def tiny_bundle(tmp_path: Path) -> Path:
    """An ONNX bundle of the tiny network."""
    return tiny_models.write_bundle(tmp_path / "tiny-bundle", tiny_formats.onnx(tmp_path))


@pytest.fixture()
def runner(tiny_bundle: Path) -> Iterator[Runner]:
    """A runner of the tiny network on one thread."""
    with load(tiny_bundle, threads=1) as opened:
        yield opened


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture()
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run `rtmw-edge ARGUMENTS` in this process."""

    def command(*arguments: object) -> Finished:
        from rtmw_edge.cli import main

        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        code = left.value.code
        return Finished(code if isinstance(code, int) else int(code is not None), out, err)

    return command
