"""The house: what lies at the top, which room may import which, that no arrow runs in a circle, and who needs torch."""
import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT

SCRIPTS = {"train", "generate_digits", "evaluate", "fid", "models", "data", "export_onnx", "attacks", "saliency"}
ROOMS = {"training", "datasets", "metrics", "study", "utils"}
TOOLS = {"generate_digits", "attacks", "saliency", "export_onnx"}
MAY_IMPORT = {          # room or script -> what it may import, beside itself
    "utils": set(), "datasets": {"utils"}, "data": {"utils", "datasets"}, "models": {"utils"},
    **{tool: {"utils", "data", "models"} for tool in TOOLS},
    "metrics": {"utils", "datasets", "data"},
    "training": {"utils", "data", "models", "metrics"} | TOOLS,
    "study": {"utils", "datasets", "data", "models", "training", "metrics"} | TOOLS,
    "train": {"utils", "data", "models", "training", "metrics"} | TOOLS,
    "evaluate": {"utils", "datasets", "data", "training", "study"}, "fid": {"utils", "data", "metrics"}}


def source_files():
    """{module name: path} of the scripts and rooms, as they are imported."""
    paths = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).glob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


FILES = source_files()


def imported(path):
    """Modules of this house that a file imports, anywhere in it: set of names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in names if name in FILES and name not in ROOMS}


def test_nine_scripts_and_five_rooms():
    assert {path.stem for path in ROOT.glob("*.py")} == SCRIPTS
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == ROOMS


@pytest.mark.parametrize("module", sorted(FILES))
def test_arrows_run_one_way(module):
    room = module.split(".")[0]
    rooms = {name.split(".")[0] for name in imported(FILES[module])}
    assert rooms - {room} <= MAY_IMPORT[room]


def test_no_circles():
    assert list(TopologicalSorter({module: imported(path) for module, path in FILES.items()}).static_order())


def test_no_section_imports_a_section():
    """What sections share lies in context.py and report.py; ocr_report.py and corruptions.py are parts of a section."""
    sections = {f"study.{name}" for name in ("generators", "classifier", "epochs", "ocr", "robustness", "saliency_checks")}
    for section in sections:
        assert not imported(FILES[section]) & sections


def test_no_module_is_found_by_a_string():
    for path in FILES.values():
        text = path.read_text(encoding="utf-8")
        assert "importlib" not in text and "__import__" not in text, path


def test_apps_need_no_torch():
    code = ("import sys, data, fid, generate_digits, datasets.strokes, metrics.neighbours, metrics.conditional;"
            "generate_digits.open_generator('saved_models/generator.onnx'); sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
