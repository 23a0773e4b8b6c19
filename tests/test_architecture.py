"""The import rules and the banned calls, held by an AST walk over all our code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
PACKAGES = ("formats", "choreo_cli", "commands")
KERNEL = {
    "__main__", "app", "errors", "streams", "outputs", "options", "progress", "terminal", "config", "runtime", "engine",
    "mangen",
}  # fmt: skip
DOMAIN_MAY_USE = {"errors", "runtime", "engine"}
LANES = {"sessions", "reflex", "generate", "trajectory", "live"}
SHARED = {"motion", "audio", "dataset", "training", "export", "metrics", "report"}
HEAVY = ("torch", "numpy", "librosa", "numba", "scipy", "pyarrow", "polars", "matplotlib", "pydantic", "rich")
# The contained pickle reader runs in a process of its own; nothing else may name pickle.
PICKLE_CHILD = "formats/foreign/pickle_child.py"


def sources(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((TOP / folder).rglob("*.py")):
            yield path.relative_to(TOP), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file; every rule looks at the same one and changes nothing in it."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST, *, top_only: bool = False) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, imported names) of every import statement that runs."""
    nodes = tree.body if top_only and isinstance(tree, ast.Module) else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module, tuple(a.name for a in node.names)


def is_kernel(path: Path) -> bool:
    return len(path.parts) == 2 and path.parts[0] == "choreo_cli" and (path.stem in KERNEL or path.stem == "__init__")


def domain() -> Iterator[tuple[Path, ast.Module]]:
    return ((p, t) for p, t in sources("choreo_cli") if not is_kernel(p))


def test_the_walk_sees_the_project() -> None:
    assert len(list(sources(*PACKAGES))) > 60


def test_formats_import_only_contract_libraries() -> None:
    banned = {"torch", "polars", "typer", "librosa", "choreo_cli", "commands"}
    found = [(str(p), m) for p, t in sources("formats") for m, _ in imports(t) if m.split(".")[0] in banned]
    assert found == []


def test_only_commands_and_kernel_import_typer() -> None:
    found = [str(p) for p, t in [*sources("formats"), *domain()] for m, _ in imports(t) if m.split(".")[0] == "typer"]
    assert found == []


def test_nothing_but_commands_imports_commands() -> None:
    found = [
        (str(p), m) for p, t in sources("formats", "choreo_cli") for m, _ in imports(t) if m.split(".")[0] == "commands"
    ]
    assert found == []


def test_domain_uses_only_three_modules_of_the_kernel() -> None:
    found = []
    for path, tree in domain():
        for module, names in imports(tree):
            parts = module.split(".")
            used = {parts[1]} if parts[0] == "choreo_cli" and len(parts) > 1 else set()
            used |= set(names) if module == "choreo_cli" else set()
            found += [(str(path), u) for u in used & (KERNEL - DOMAIN_MAY_USE)]
    assert found == []


def test_lanes_do_not_import_lanes_and_shared_packages_import_no_lane() -> None:
    found = []
    for path, tree in domain():
        if len(path.parts) < 3:
            continue
        own = path.parts[1]
        for module, _ in imports(tree):
            parts = module.split(".")
            if parts[0] != "choreo_cli" or len(parts) < 2 or parts[1] not in LANES or parts[1] == own:
                continue
            if own == "live" and parts[1] == "reflex":
                continue
            found.append((str(path), module))
    assert found == []


def test_no_private_names_cross_modules() -> None:
    found = []
    for path, tree in sources(*PACKAGES):
        for module, names in imports(tree):
            if module.split(".")[0] in PACKAGES:
                found += [(str(path), module, n) for n in names if n.startswith("_") and not n.startswith("__")]
    assert found == []


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_dumping_ground(name: str) -> None:
    assert [p for p, _ in sources(*PACKAGES, "tests") if p.stem == name] == []


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_domain_is_silent() -> None:
    """No print, no argv, no environment, no exit in the domain and the formats."""
    found = []
    for path, tree in [*sources("formats"), *domain()]:
        found += [
            (str(path), name) for name, _ in calls(tree) if name in ("print", "sys.exit", "exit", "quit", "input")
        ]
        text = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        found += [
            (str(path), w) for w in ("os.environ", "os.getenv", "sys.argv", "sys.stdout", "sys.stderr") if w in text
        ]
    allowed = {"formats/foreign/pickle_child.py"}
    assert [f for f in found if f[0] not in allowed] == []


BANNED = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load", "yaml.load", "eval", "exec", "compile",
    "os.system", "tempfile.mktemp", "librosa.load", "joblib.load", "dill.load", "dill.loads", "cloudpickle.load",
    "os.popen", "marshal.loads", "marshal.load", "shelve.open",
}  # fmt: skip


def test_banned_calls() -> None:
    found = []
    for path, tree in sources(*PACKAGES):
        if str(path) == PICKLE_CHILD:
            continue
        for name, node in calls(tree):
            if name in BANNED or name.endswith(".extractall") or name.split(".")[-1] in ("sympify", "parse_expr"):
                found.append((str(path), name))
            if name.startswith(("pl.read_", "pl.scan_", "polars.read_")):
                found.append((str(path), name))
            for k in node.keywords:
                value = k.value.value if isinstance(k.value, ast.Constant) else None
                if (k.arg, value) in (
                    ("shell", True),
                    ("allow_pickle", True),
                    ("weights_only", False),
                    ("verify", False),
                ):
                    found.append((str(path), f"{name}({k.arg}={value})"))
        found += [
            (str(path), m) for m, _ in imports(tree) if m.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle")
        ]
    assert found == []


def test_every_command_module_is_thin() -> None:
    lengths = {p.name: len((TOP / p).read_text().splitlines()) for p, _ in sources("commands")}
    assert lengths and max(lengths.values()) <= 200, lengths


def test_modules_and_functions_stay_readable() -> None:
    long = [str(p) for p, _ in sources(*PACKAGES) if len((TOP / p).read_text().splitlines()) > 400]
    assert long == []
    tall = []
    for path, tree in sources(*PACKAGES):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 80:
                    tall.append((str(path), node.name, length))
    assert tall == []


def loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=TOP, timeout=60, check=True
    )
    return set(done.stdout.split("\n")[-2].split())


def command_lines() -> list[list[str]]:
    from choreo_cli.app import COMMANDS, load

    lines = [[]]
    for name in COMMANDS:
        lines.append([name])
        lines += [[name, sub] for sub in getattr(load(name), "commands", None) or ()]
    return lines


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"from choreo_cli import app\napp.run({[*words, '--help']!r})"
    assert loaded(code) & {*HEAVY, "soundfile", "mido", "av", "yaml"} == set()


def test_start_up_loads_no_torch_anywhere() -> None:
    modules = [".".join(p.with_suffix("").parts) for p, _ in sources("choreo_cli/sessions", "commands")]
    code = "\n".join(f"import {m}" for m in modules if not m.endswith(("__init__", "_torch")))
    assert loaded(code) & {"torch", "librosa", "numba", "pandas", "polars"} == set()
