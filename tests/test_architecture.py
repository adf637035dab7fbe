"""Rules that a test can check: the order of the packages, the pure modules, the sizes, and what tests may use."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "scanner"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {
    name.removesuffix(".__init__"): path for name, path in MODULES.items() if name not in ("__init__", "__main__")
}

# Bottom up: a package may import those before it and itself. `errors`, `config` and the version are open to all.
PACKAGES = (
    "packet", "verdict", "targets", "net", "capture", "transport", "output", "rounds", "connect", "halfopen",
    "trace", "classifier", "who", "results", "page", "fleet", "lab", "cli",
)  # fmt: skip
OPEN_TO_ALL = {"", "errors", "config", "declare", "documents", "files", "gzipped", "_version"}
IMPURE = {  # they read files, ask the resolver, or start Scapy's process
    "targets.spec", "targets.literals", "targets.files", "targets.names", "targets.special", "packet.template",
}  # fmt: skip
PURE = (
    {name for name in MODULES if name.split(".")[0] in ("packet", "verdict", "targets", "rounds")} - IMPURE
    | {f"halfopen.{name}" for name in ("lane", "outage", "receive", "scan", "transmit", "neighbours")}
    | {f"who.{name}" for name in ("fields", "marks", "claims")}
    | {f"fleet.{name}" for name in ("messages", "leases", "attempts", "board", "gather", "rows")}
)
EDGES = ("transport.", "net", "capture", "targets.spec", "targets.files", "targets.names", "lab", "output")
IO = {
    "socket", "os", "select", "selectors", "subprocess", "time", "random", "secrets", "signal", "threading", "pathlib",
    "io", "mmap",
}  # fmt: skip
CALLS = {"open", "print", "input"}
MOST_LINES, MOST_FUNCTION_LINES = 300, 45  # of a function's body: a list of parameters is data


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def imports(name: str) -> set[str]:
    """What a module imports anywhere in it: ours as `.module` from the package's root, others by their first name."""
    found: set[str] = set()
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            inner = {".".join([*base, alias.name]) for alias in node.names}
            found |= {f".{module}" for module in (inner & MODULES.keys() or {".".join(base)})}
    return found


def test_the_lists_are_true() -> None:
    assert (PURE | IMPURE) - MODULES.keys() == set()
    assert {name.split(".")[0] for name in MODULES if "." in name} == set(PACKAGES)


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in PACKAGES])
def test_packages_import_only_lower_ones(name: str) -> None:
    package = name.split(".")[0]
    below = {*PACKAGES[: PACKAGES.index(package) + 1]}
    ours = {module[1:] for module in imports(name) if module.startswith(".")}
    assert {module for module in ours if module.split(".")[0] not in below} <= OPEN_TO_ALL


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_no_edge_and_no_io(name: str) -> None:
    wrong = {
        module for module in imports(name) if module in IO or module.startswith(tuple(f".{edge}" for edge in EDGES))
    }
    assert wrong == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_read_write_and_print_nothing(name: str) -> None:
    called = {n.func.id for n in ast.walk(tree(name)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert called & CALLS == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_only_pure_ones(name: str) -> None:
    """Besides the types of a transport, the errors, the frames that Scapy builds, and what reads our own schemas."""
    ours = {module[1:] for module in imports(name) if module.startswith(".")}
    assert ours <= PURE | {"transport", "errors", "documents", "packet.template", ""}


@pytest.mark.parametrize(
    ("library", "allowed"), [("scapy", {"packet.template"}), ("typer", {"cli.verbs", "cli.commands"})]
)
def test_who_imports_what(library: str, allowed: set[str]) -> None:
    assert {name for name in MODULES if library in imports(name)} == allowed


@pytest.mark.parametrize("name", MODULES)
def test_every_module_opens_with_an_explanation(name: str) -> None:
    explanation = ast.get_docstring(tree(name)) or ""
    assert len(explanation.split()) >= (4 if name.endswith("__main__") else 12)


@pytest.mark.parametrize("name", MODULES)
def test_lengths(name: str) -> None:
    lines = len(MODULES[name].read_text("utf-8").splitlines())
    functions = (node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name: node.end_lineno - node.body[0].lineno + 1 for node in functions if node.end_lineno}
    assert (lines <= MOST_LINES, {k: v for k, v in long.items() if v > MOST_FUNCTION_LINES}) == (True, {})


TESTS = sorted(Path(__file__).parent.rglob("*.py"))
OF_NAMEDTUPLES = {"_replace", "_asdict", "_fields", "_make"}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_tests_use_no_private_names_and_import_no_test(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    reached = [node for node in nodes if isinstance(node, ast.Attribute) and is_private(node.attr)]
    private = {n.attr for n in reached if not (isinstance(n.value, ast.Name) and n.value.id == "self")}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    private |= {alias.name for node in froms for alias in node.names if is_private(alias.name)}
    tests = {node.module for node in froms if (node.module or "").rpartition(".")[2].startswith(("test_", "conftest"))}
    assert (private, tests) == (set(), set())


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_NAMEDTUPLES and name != "_version"


def test_help_imports_no_large_library() -> None:
    program = (
        "import sys; from scanner.cli.verbs import main\n"
        "sys.argv = ['halfopen', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({'numpy', 'scapy', 'rich', 'netaddr'} & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["--help"], ["syn", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
        )
        assert (done.stderr.strip(), bool(done.stdout)) == ("", True)


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "bench").glob("*.py")), ids=lambda path: path.stem)
def test_every_measurement_can_be_imported(path: Path) -> None:
    """They take too long to run here. Importing them shows that the names they use still exist."""
    if path.stem != "__main__":
        import_module(f"tests.bench.{path.stem}")
