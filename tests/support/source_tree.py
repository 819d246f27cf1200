"""What the modules of a source tree import, name in strings, and call their variables."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_MODULE_NAME = re.compile(r"(?:cohobate|tasks|flows)(?:(?:\.[a-z_0-9]+)+|(?:\.[a-z_0-9]+)*\.)")

_PRIVATE = re.compile(r"_[a-zA-Z]\w*")


@cache
def _parsed(path: Path) -> tuple[ast.Module, list[ast.AST]]:
    """The syntax tree of a file and all of its nodes, once for all tests that look at it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tree, list(ast.walk(tree))


@dataclass(frozen=True)
class Module:
    """One file of a tree: its dotted name, and what its source says."""

    name: str
    path: Path
    modules: frozenset[str] = field(repr=False)  # all names of the tree, to tell a module from what it defines

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.path)[0]

    @property
    def nodes(self) -> list[ast.AST]:
        return _parsed(self.path)[1]

    @property
    def imports(self) -> set[str]:
        """Modules imported anywhere: in functions and TYPE_CHECKING blocks too."""
        names: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {self._module(self._base(node), alias.name) for alias in node.names}
        return names - {self.name}

    @property
    def packages_at_import(self) -> set[str]:
        """Top-level packages that importing the file imports by itself."""
        names: set[str] = set()
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(self._base(node).partition(".")[0])
        return names

    @property
    def named(self) -> set[str]:
        """Modules named whole in a string, as for `python -m` or an import by name; f-strings by their beginning."""
        texts = {node.value for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        return {text.removesuffix(".") for text in texts if _MODULE_NAME.fullmatch(text)}

    @property
    def variables(self) -> Iterator[tuple[str, int]]:
        """(name, line) of each variable, parameter, field and function."""
        for node in self.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, node.lineno
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr, node.lineno
            elif isinstance(node, ast.arg):
                yield node.arg, node.lineno
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node.lineno

    @property
    def private_names(self) -> set[str]:
        """Names with a leading underscore that the file defines: variables, fields, functions, classes."""
        names = {name for name, _ in self.variables}
        names |= {node.name for node in self.nodes if isinstance(node, ast.ClassDef)}
        return {name for name in names if _PRIVATE.fullmatch(name)}

    @property
    def private_uses(self) -> Iterator[tuple[str, int]]:
        """(name, line) of each private name that the file imports, reads as an attribute, or replaces by name."""
        for node in self.nodes:
            names: list[object] = []
            if isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
                names = [each.value for each in node.args if isinstance(each, ast.Constant)]
            for name in names:
                last = str(name).rpartition(".")[2]
                if isinstance(node, ast.stmt | ast.expr) and _PRIVATE.fullmatch(last):
                    yield last, node.lineno

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + (self.path.name == "__init__.py")]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _module(self, base: str, name: str) -> str:
        return full if (full := f"{base}.{name}") in self.modules else base


def modules(folders: Mapping[Path, Path]) -> dict[str, Module]:
    """The modules of several folders, by their dotted names: {folder: where its names begin}."""
    paths = {_name(path, root): path for folder, root in folders.items() for path in sorted(folder.rglob("*.py"))}
    return {name: Module(name, path, frozenset(paths)) for name, path in paths.items()}


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
