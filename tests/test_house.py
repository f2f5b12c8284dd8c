"""Who may import whom: the rules of the design, held by reading every import statement of the product."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rtmw_edge"
TOP_LEVEL = ("quantization", "calibration", "targets")
"""Folders at the top level that are installed as rtmw_edge.NAME."""

LEAVES = {"errors", "files", "signals", "toml_files"}
CORE = {"keypoints", "simcc", "crops", "camera", "poses"}
BOARD = LEAVES | CORE | {"bundle", "runtime"}
MODELS = BOARD | {"models"}
DATA = MODELS | {"data"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "signals": set(),
    "toml_files": {"errors"},
    **{name: LEAVES | CORE for name in CORE},
    "bundle": LEAVES | CORE,
    "runtime": LEAVES | CORE | {"bundle"},
    "fleet": BOARD,
    "models": LEAVES | CORE,
    "data": LEAVES | CORE | {"models"},
    "evaluation": BOARD | {"data", "models"},
    "training": DATA | {"evaluation"},
    "quantization": DATA | {"training", "targets.rewrites"},
    "calibration": DATA | {"evaluation", "quantization", "targets.rewrites"},
    "targets": DATA | {"quantization", "calibration"},
    "sweep": DATA | {"evaluation", "fleet", "quantization", "calibration", "targets"},
}
"""What each part may import of ours; `cli` may import everything."""

TORCH_ENGINE = "runtime/torch_engine.py"
"""The one file below `runtime` that may import torch and the networks; it is itself imported on demand only."""

CONSOLE = "cli/console.py"
"""The one file of the command line with Rich at its top; commands import it when they run."""

ON_A_BOARD = ("bundle", "runtime", "fleet", *CORE, *LEAVES)
HEAVY = {"torch", "onnx", "nncf", "numba", "safetensors", "rich", "typer"}
RUNTIMES = {"onnxruntime", "openvino", "ncnn", "ai_edge_litert", "tflite_runtime"}


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Part, path and syntax tree of every module of the product."""
    for folder in (PACKAGE, *(ROOT / name for name in TOP_LEVEL)):
        for path in sorted(folder.rglob("*.py")):
            place = path.relative_to(PACKAGE if folder == PACKAGE else ROOT)
            yield place.parts[0].removesuffix(".py"), path, ast.parse(path.read_text(), str(path))


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Absolute name of every import, and whether it is made at the top of the file (outside TYPE_CHECKING)."""
    top = set(map(id, tree.body))
    for branch in tree.body:
        if isinstance(branch, ast.Try):
            top |= set(map(id, branch.body))
    inside = path.relative_to(PACKAGE).parts if path.is_relative_to(PACKAGE) else path.relative_to(ROOT).parts
    package = ["rtmw_edge", *inside[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{name}.{alias.name}", id(node) in top) for alias in node.names)


def name_of(path: Path) -> str:
    """The module of a file: "rtmw_edge.runtime.engine"."""
    inside = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT)
    return ".".join(["rtmw_edge", *inside.with_suffix("").parts]).removesuffix(".__init__")


def upwards(name: str) -> Iterator[str]:
    """A dotted name and whatever it lies in: an import may name a module or something of it."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def ours(name: str) -> str | None:
    """The part of ours that an import names: "crops", "targets.rewrites"; None for another distribution."""
    words = name.split(".")
    if words[0] != "rtmw_edge" or len(words) < 2:
        return None
    if words[1:3] == ["targets", "rewrites"]:
        return "targets.rewrites"
    return words[1]


ALL = list(modules())
PARTS = {part for part, _, _ in ALL} - {"__init__", "__main__", "cli"}


def test_every_part_has_a_rule() -> None:
    assert sorted(PARTS - MAY_IMPORT.keys()) == []


@pytest.mark.parametrize("part", sorted(PARTS & MAY_IMPORT.keys()))
def test_a_part_imports_only_what_it_may(part: str) -> None:
    wrong = []
    for owner, path, tree in ALL:
        if owner != part or str(path).endswith(TORCH_ENGINE):
            continue
        for name, _ in imports(path, tree):
            target = ours(name)
            allowed = MAY_IMPORT[part] | {part, "__version__"}
            if target is not None and target not in allowed and target.partition(".")[0] not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Neither at the top nor on demand: what they share belongs into a third."""
    files = {name_of(path): (path, tree) for _, path, tree in ALL if path.parent != PACKAGE or path.stem != "__init__"}
    graph: dict[str, set[str]] = {}
    for name, (path, tree) in files.items():
        found = (imported for imported, _ in imports(path, tree))
        nearest = (next((up for up in upwards(imported) if up in files), name) for imported in found)
        graph[name] = set(nearest) - set(upwards(name))  # a package's own __init__ gathers what lies in it
    assert len(graph) > 250 and graph["rtmw_edge.bundle.reading"] > {"rtmw_edge.bundle.manifest", "rtmw_edge.files"}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_a_board_needs_no_torch() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for part, path, tree in ALL
        if part in ON_A_BOARD and not str(path).endswith(TORCH_ENGINE)
        for name, top in imports(path, tree)
        if name.partition(".")[0] in HEAVY and (top or part != "runtime")
    ]
    assert wrong == []


def test_runtimes_are_imported_on_demand() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name} at the top"
        for part, path, tree in ALL
        if part == "runtime"
        for name, top in imports(path, tree)
        if top and name.partition(".")[0] in RUNTIMES
    ]
    assert wrong == []


def test_commands_are_light_at_the_top() -> None:
    standard = {"__future__", "collections", "contextlib", "errno", "logging", "pathlib", "sys", "typing"}
    allowed = standard | {"typer", "rtmw_edge"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name} at the top"
        for part, path, tree in ALL
        if part == "cli" and not str(path).endswith(CONSOLE)
        for name, top in imports(path, tree)
        if top and (name.partition(".")[0] not in allowed or (ours(name) or "cli") not in ("cli", "errors"))
    ]
    assert wrong == []


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def test_a_board_loads_no_runtime_before_it_opens_one() -> None:
    loaded = run_python(
        "import sys, rtmw_edge; rtmw_edge.load; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    assert set(loaded.split()) & (HEAVY | RUNTIMES) == set()


def test_a_run_leaves_nothing_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would keep a number of the machine there, and what it is to send to its makers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    run_python("import rtmw_edge, numpy; rtmw_edge.load()(numpy.zeros((40, 30, 3), numpy.uint8))")
    assert list(tmp_path.iterdir()) == []


def test_importing_takes_less_than_0_3_seconds() -> None:
    """Seconds of processor time, which a busy machine does not stretch as it does the clock's."""
    code = "import time; t = time.process_time(); import rtmw_edge; rtmw_edge.Poses; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.3


def test_every_package_is_installed() -> None:
    """pyproject names the packages one by one; one that is forgotten is missing where nobody has the clone."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "rtmw_edge").rglob("__init__.py")]
    folders += [path.parent.relative_to(ROOT) for top in TOP_LEVEL for path in (ROOT / top).rglob("__init__.py")]
    names = {".".join(p.parts if p.parts[0] == "rtmw_edge" else ("rtmw_edge", *p.parts)) for p in folders}
    assert sorted(name for name in names if f'"{name}",' not in text) == []


def test_every_benchmark_and_tool_is_told_of() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = [path.name for folder in ("benchmarks", "tools") for path in (ROOT / folder).iterdir() if path.is_file()]
    assert sorted(name for name in files if name not in text) == []


def test_oldest_versions_are_those_of_the_package() -> None:
    """What `make test-oldest` installs is what pyproject.toml says that it takes."""
    package = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # Of a package that is there twice the first counts, which is the runner's.
    taken = dict(reversed(re.findall(r'"([\w-]+)>=([\d.]+)[^"]*"', package)))
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints-oldest.txt").read_text(), re.MULTILINE))
    del pinned["onnx"], pinned["opencv-python"]  # the tests' and ncnn's
    assert [name for name, version in pinned.items() if not f"{version}.".startswith(f"{taken[name]}.")] == []
