"""The code that decides what a bundle holds: found by its imports, and hashed by what it does, not how it is written.

So a changed working copy does not take a stale bundle for its own, while a comment, a docstring, an annotation or the
writer of another format leaves what was measured as it is. Networks, renderer, runtime and evaluation count by the
version of the tool alone (`cells.digest`).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path

PACKAGES = ("targets", "quantization", "calibration")
"""Of rtmw_edge, those with the code that counts."""

SCALES = ("targets.export",)
"""What chooses scales begins here, whatever is written with them; other tools than ours are in `PEERS`."""

PEERS = "targets.peers"


def writers(target: str) -> tuple[str, ...]:
    """Where the code that writes a target's files begins: its modules, also those that run in another process."""
    return (*SCALES, *(f"targets.{path.stem}" for path in sorted(_folder("targets").glob(f"{target}*.py"))))


@lru_cache(maxsize=32)
def code_sha256(roots: tuple[str, ...], packages: tuple[str, ...] = PACKAGES, without: tuple[str, ...] = ()) -> str:
    """Hash of the modules `roots` ("targets.export") and of all of `packages` that they import, but for `without`."""
    waiting, found = list(roots), dict[str, str]()
    while waiting:
        name = waiting.pop()
        package, _, module = name.partition(".")
        if name in found or name in without or package not in packages:
            continue
        path = _folder(package) / f"{module or '__init__'}.py"
        if path.is_file():
            tree = bare(path.read_text(encoding="utf-8"))
            found[name] = ast.dump(tree)
            waiting += [package, *_imported(package, tree)]
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def bare(source: str) -> ast.Module:
    """A module without what only readers and type checkers take notice of."""
    tree = ast.parse(source)
    _Undress(tree).visit(tree)
    return tree


class _Undress(ast.NodeTransformer):
    """Takes out docstrings, annotations, and what is imported for those. Where an annotation makes a field it stays."""

    def __init__(self, tree: ast.Module) -> None:
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        self._fields = {line for node in classes if node.bases or node.decorator_list for line in node.body}

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if for_types else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node in self._fields:
            return node
        return None if node.value is None else ast.Assign([node.target], node.value)


def _imported(package: str, tree: ast.Module) -> Iterator[str]:
    """What a module of `package` imports of ours, at its top or later, each as a module that may exist."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("rtmw_edge.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = [package] if node.level == 1 else []
            base = [*above, *(node.module or "").removeprefix("rtmw_edge").strip(".").split(".")]
            name = ".".join(part for part in base if part)
            yield name
            yield from (f"{name}.{alias.name}".lstrip(".") for alias in node.names)


@lru_cache(maxsize=8)
def _folder(package: str) -> Path:
    return Path(str(import_module(f"rtmw_edge.{package}").__file__)).parent
