"""Tests that pass when they have nothing to look at: every assertion stands in a loop that may be empty."""

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef


def hollow_tests(tree: ast.Module) -> list[str]:
    """The names of the tests in `tree` with assertions, all of which stand in loops over no literal."""
    constants = _literals(tree.body, set())
    tests = [node for node in ast.walk(tree) if isinstance(node, Function) and node.name.startswith("test_")]
    hollow = []
    for test in tests:
        filled = constants | _parameters(test)
        filled |= _literals([node for node in ast.walk(test) if isinstance(node, ast.stmt)], filled)
        may_not_run = list(_assertions(test, filled, False))
        if may_not_run and all(may_not_run):
            hollow.append(test.name)
    return hollow


def _assertions(node: ast.AST, filled: set[str], in_loop: bool) -> Iterator[bool]:
    """For each assertion below `node`, whether a loop that may be empty is around it."""
    for child in ast.iter_child_nodes(node):
        is_body = isinstance(node, ast.For | ast.AsyncFor) and child in node.body and not _filled(node.iter, filled)
        if isinstance(child, ast.Assert) or (isinstance(child, ast.Call) and _asserts(child)):
            yield in_loop or is_body
        yield from _assertions(child, filled, in_loop or is_body)


def _asserts(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    return name == "raises" or name.startswith("assert_")


def _filled(node: ast.expr, names: set[str]) -> bool:
    """Whether a reader sees that `node` has items: a literal, a name for one, or what keeps the items of one."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return any(not isinstance(item, ast.Starred) or _filled(item.value, names) for item in items)
        case ast.Dict(keys=items):
            return bool(items)
        case ast.ListComp(generators=loops) | ast.SetComp(generators=loops) | ast.DictComp(generators=loops):
            return all(not loop.ifs and _filled(loop.iter, names) for loop in loops)
        case ast.Name(id=name):
            return name in names
        case ast.Call(func=ast.Name(id="range"), args=limits):
            return all(isinstance(limit, ast.Constant) for limit in limits)
        case ast.Call(func=ast.Name(id="enumerate" | "reversed" | "sorted" | "list"), args=[items, *_]):
            return _filled(items, names)
        case ast.Call(func=ast.Name(id="zip"), args=parts, keywords=[ast.keyword(value=ast.Constant(value=True))]):
            return any(_filled(part, names) for part in parts)  # strict: it raises where another is empty
        case ast.Call(func=ast.Name(id="zip") | ast.Attribute(attr="product"), args=parts):
            return all(_filled(part, names) for part in parts)
        case ast.Call(func=ast.Attribute(value=items, attr="items" | "keys" | "values")):
            return _filled(items, names)
    return False


def _literals(statements: list[ast.stmt], names: set[str]) -> set[str]:
    """The variables that `statements` bind to literals with items, or unpack from one."""
    bound: set[str] = set()
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        value = getattr(statement, "value", None)
        for target in targets:
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=False))
            for name, each in pairs:
                if isinstance(name, ast.Name) and each is not None and _filled(each, names | bound):
                    bound.add(name.id)
    return bound


def _parameters(test: Function) -> set[str]:
    """The arguments that pytest.mark.parametrize gives: its list is there to be read."""
    names: set[str] = set()
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("parametrize"):
            names |= {str(node.value) for node in ast.walk(decorator.args[0]) if isinstance(node, ast.Constant)}
    return {part.strip() for name in names for part in name.split(",")}
