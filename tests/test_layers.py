"""Imports point one way: units → data → nn → model → potential → everything else in the core; core ← flows."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# what each part of the core may import from the core; anything not listed here may import all of it
MAY_IMPORT = {
    "units": set(),
    "errors": set(),
    "memory": set(),
    "files": {"errors"},
    "strict": {"errors"},
    "locks": {"errors", "files"},
    "lazy": set(),
    "digests": set(),
    "threads": set(),
    "data": {"units", "errors", "memory", "files", "data"},
    "nn": {"units", "threads", "nn"},
    "model": {"units", "errors", "files", "locks", "strict", "nn", "model"},
    "compiled": {"errors", "memory", "model"},
    "uncertainty": {"strict"},
    "share_worker": {"data", "memory"},
    "shares": {"errors", "threads", "memory", "data", "share_worker"},
    "potential": {"units", "errors", "threads", "memory", "data", "nn", "model", "compiled", "shares"},
}
CORE_ALLOWED = {
    "torch",
    "numpy",
    "scipy",
    "ase",
    "vesin",
    "spglib",
    "safetensors",
    "rich",
    "nvalchemiops",
    "pymatgen",
    "lmdb",  # optional, as the next
    "msgpack",
    "dpa4_core",
}
# imports that still point up: the library relaxes through a Maker, labels know the reasons of a campaign, and the
# document of a hull holds the verdict
UPWARDS = {("report", "campaigns"), ("documents", "analysis")}
ENGINES = {"torch", "jobflow", "fireworks", "atomate2"}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("dpa4_core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_knows_no_workflows_and_points_left(path):
    part = path.relative_to(ROOT / "dpa4_core").parts[0].removesuffix(".py")
    names = imports(path)
    for name in names:
        package = name.split(".")[0]
        assert package in CORE_ALLOWED or package in sys.stdlib_module_names, f"{path} imports {name}"
        if package == "dpa4_core" and part in MAY_IMPORT:
            target = name.split(".")[1]
            assert target in MAY_IMPORT[part], f"{path} imports {name}"
    assert not any(n.split(".")[0] == "pymatgen" for n in imports(path, top_level_only=True)), f"{path} needs pymatgen"


@pytest.mark.parametrize("folder", ["data", "nn", "model", "relax", "train"])
def test_files_of_the_core_do_not_import_each_other_in_circles(folder):
    package = f"dpa4_core/{folder}"
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files(package)}
    TopologicalSorter({name: imports(path) & names.keys() for name, path in names.items()}).prepare()


@pytest.mark.parametrize("path", files("dpa4_flows/analysis"), ids=lambda p: p.name)
def test_analysis_is_free_of_engines(path):
    assert not {name.split(".")[0] for name in imports(path)} & ENGINES, path


def test_analysis_and_readers_import_no_engine_transitively():
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files("dpa4_flows/analysis")]
    code = f"""
import importlib, sys
for module in {[*modules, "dpa4_core.data.readers", "dpa4_core.model.registry"]}:
    importlib.import_module(module)
    assert sys.modules.keys().isdisjoint({sorted(ENGINES)}), module
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_folders_import_one_another_in_one_direction():
    """Folders of the workflows, with the modules beside them; also imports inside functions count."""
    graph: dict[str, set[str]] = {}
    for path in files("dpa4_flows"):
        part = path.relative_to(ROOT / "dpa4_flows").parts[0].removesuffix(".py")
        if part != "__init__":
            named = {name.split(".")[1] for name in imports(path) if name.startswith("dpa4_flows.")}
            graph.setdefault(part, set()).update(n for n in named - {part} if (part, n) not in UPWARDS)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_test_package_is_imported_by_the_product():
    for path in files("dpa4_core") + files("dpa4_flows"):
        assert not any(name.startswith(("pytest", "secantus")) for name in imports(path)), path
