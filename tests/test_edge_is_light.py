"""The edge agent stays light: nothing of the factory's world is imported, written down or needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EDGE = ROOT / "edge_agent"
HEAVY = {"torch", "pandas", "xarray", "scipy", "sklearn", "lightgbm", "onnx", "onnxscript", "model_factory"}
ALLOWED = {"click", "msgspec", "numpy", "onnxruntime", "paho", "serial", "sqlite_utils", "edge_agent"}
LATE = {
    "ai_edge_litert",
    "amqtt",
    "matplotlib",
    "pymodbus",
    "pynmea2",
}  # only inside functions: their extras may be absent

# Imports every module it is told, the heavy packages made impossible; says what it could not import and what is loaded.
CHILD = """
import importlib, json, sys
modules, banned = json.loads(sys.argv[1])
for name in banned:
    sys.modules[name] = None
failed = {}
for name in modules:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(json.dumps([failed, sorted(loaded)]))
"""


def modules() -> list[str]:
    """Every module of the agent by its dotted name."""
    files = (path.relative_to(ROOT).with_suffix("") for path in sorted(EDGE.rglob("*.py")))
    return [".".join(p.parts[:-1] if p.name == "__init__" else p.parts) for p in files]


def imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """(top package, line, at module level) of every import statement."""
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            yield name.partition(".")[0], node.lineno, id(node) not in inner


def run(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    command = [sys.executable, "-c", code, *arguments]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_every_edge_module_imports_without_the_factorys_packages() -> None:
    names = modules()
    failed, loaded = json.loads(run(CHILD, json.dumps([names, sorted(HEAVY | LATE)])).splitlines()[-1])
    assert failed == {}
    assert not HEAVY & set(loaded)
    assert len(names) > 10


def test_help_loads_neither_numpy_nor_the_runtime() -> None:
    """`edge-agent --help` stays quick on a small device."""
    loaded = set(json.loads(run("import json, sys, edge_agent.cli; print(json.dumps(sorted(sys.modules)))")))
    assert not loaded & {"numpy", "onnxruntime", "paho.mqtt.client", "sqlite_utils"}


@pytest.mark.parametrize("path", sorted(EDGE.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_edge_sources_name_only_the_agents_dependencies(path: Path) -> None:
    for package, line, at_top in imports(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.relative_to(ROOT)}:{line} imports {package}"
        assert package not in HEAVY, where
        assert package in ALLOWED | LATE | set(sys.stdlib_module_names), f"{where}, which is no dependency of the agent"
        assert not (package in LATE and at_top), f"{where} at module level; its extra may be absent"
