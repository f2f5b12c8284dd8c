"""What a sweep's results stay valid through: how code is written, and code that their bundles are not made by."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from rtmw_edge.targets import TARGETS

from rtmw_edge.sweep import code as code_module
from rtmw_edge.sweep.code import PEERS, bare, code_sha256, writers

PLAIN = "def f(x):\n    return x + 1\n\nclass A:\n    grids = (1,)\n"

Hash = Callable[..., str]


def meaning(source: str) -> str:
    return ast.dump(bare(source))


@pytest.mark.parametrize(
    "dressed",
    [
        PLAIN.replace("def", '"""A module."""\n\n\ndef', 1) + '\n"""Text."""\n',
        PLAIN.replace("    return x + 1", '    """Adds one."""\n    return (x + 1)  # why'),
        PLAIN.replace("f(x):", "f(x: int) -> int:"),
        PLAIN.replace("grids =", "grids: tuple[int, ...] ="),
        PLAIN.replace("    return", "    y: int\n    return"),
        "if TYPE_CHECKING:\n    from numpy.typing import NDArray\n\n" + PLAIN,
    ],
)
def test_what_only_readers_and_type_checkers_see_does_not_count(dressed: str) -> None:
    assert dressed != PLAIN and meaning(dressed) == meaning(PLAIN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PLAIN, PLAIN.replace("+ 1", "+ 2")),
        (PLAIN, PLAIN.replace("(1,)", "(1, 2)")),
        (PLAIN, PLAIN.replace("f(x)", "f(x=0)")),
        ("from a import f\n", "from b import f\n"),
        ("f('a')\n", "f('b')\n"),
        ("@dataclass\nclass A:\n    x: int = 1\n", "@dataclass\nclass A:\n    x = 1\n"),
        ("class A(NamedTuple):\n    x: int\n", "class A(NamedTuple):\n    pass\n"),
    ],
)
def test_what_code_does_counts(one: str, other: str) -> None:
    assert meaning(one) != meaning(other)


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hash:
    """The hash of a made-up toolkit after files have been changed."""
    for name, text in {
        "targets/__init__.py": "from .base import Target\n",
        "targets/base.py": "A = 1\n",
        "targets/export.py": "from . import rewrites\nfrom .peers import OURS\n\n\ndef f():\n    from rtmw_edge."
        "quantization.fake import corrected\n",
        "targets/rewrites.py": "A = 1\n",
        "targets/peers.py": "OURS = 1\n",
        "targets/onnx.py": "from .base import Target\n",
        "targets/onnx_apart.py": "A = 1\n",
        "targets/ncnn.py": "A = 1\n",
        "targets/person_detector.py": "A = 1\n",
        "quantization/__init__.py": "",
        "quantization/fake.py": "import rtmw_edge.calibration.ranges\n",
        "quantization/qat.py": "A = 1\n",
        "calibration/__init__.py": "",
        "calibration/ranges.py": "A = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code_module, "_folder", lambda package: tmp_path / package)

    def found(changed: str = "", packages: tuple[str, ...] = code_module.PACKAGES) -> str:
        if changed:
            (tmp_path / changed).write_text((tmp_path / changed).read_text() + "B = 2\n")
        code_sha256.cache_clear()
        return code_sha256(writers("onnx"), packages, (PEERS,))

    yield found
    code_sha256.cache_clear()


@pytest.mark.parametrize(
    "name",
    [
        "targets/__init__.py", "targets/base.py", "targets/export.py", "targets/rewrites.py", "targets/onnx.py",
        "targets/onnx_apart.py", "quantization/__init__.py", "quantization/fake.py", "calibration/ranges.py",
    ],
)  # fmt: skip
def test_what_is_imported_counts(name: str, hashed: Hash) -> None:
    assert hashed() != hashed(name)


@pytest.mark.parametrize(
    "name", ["targets/ncnn.py", "targets/peers.py", "targets/person_detector.py", "quantization/qat.py"]
)
def test_what_writes_something_else_does_not_count(name: str, hashed: Hash) -> None:
    assert hashed() == hashed(name)


def test_packages_that_a_cell_has_no_part_in_do_not_count(hashed: Hash) -> None:
    packages = ("targets", "quantization")
    assert hashed("", packages) == hashed("calibration/ranges.py", packages) != hashed("quantization/fake.py", packages)


def test_every_target_of_ours_has_code_of_its_own() -> None:
    code_sha256.cache_clear()
    assert len({code_sha256(writers(name), without=(PEERS,)) for name in TARGETS}) == len(TARGETS)
    assert "targets.tflite_convert" in writers("tflite"), "it is run as a process, which no import tells"
    assert code_sha256(writers("onnx")) != code_sha256(writers("onnx"), without=(PEERS,))
