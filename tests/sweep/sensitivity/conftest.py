"""One study of the tiny network, measured once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tiny_study
from small_runs import TINY, forget, register

from rtmw_edge.sweep.sensitivity.crop_set import CropSet
from rtmw_edge.sweep.sensitivity.study import Study


@pytest.fixture(autouse=True)
def tiny_variant() -> Iterator[None]:
    register()
    yield
    forget()


@pytest.fixture(scope="session")
def crop_set() -> CropSet:
    return CropSet.of(tiny_study.clouds(), TINY.input_size)


@pytest.fixture(scope="session")
def study(crop_set: CropSet, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All blocks, alone and all but each."""
    done = Study(tiny_study.subject(), crop_set, tmp_path_factory.mktemp("study") / "findings.jsonl")
    done.run(done.subject.units(by_block=True))
    return done
