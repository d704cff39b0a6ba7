"""Imports point one way, light commands stay light, and unsafe calls appear nowhere."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "robust_zoo").glob("*.py")) + sorted((ROOT / "robust_zoo" / "cli").glob("*.py"))
TRAINING = sorted((ROOT / "training").glob("**/*.py"))

# Each module may import from those before it; the light ones must work without torch.
LIGHT = [
    "errors",
    "threat",
    "stats",
    "rows",
    "registry",
    "safetensors_file",
    "cache",
    "lock",
    "http",
    "transport",
    "download",
    "convert",
    "weights",
    "cards",
    "manifest",
    "archive",
    "bundle",
    "doctor",
    "private",
    "exported",
]
ORDER = [*LIGHT, *["normalize", "shufflenet", "architectures", "state_dict", "convert_worker", "factory", "hub"]]
HEAVY = {"torch", "torchvision", "timm", "safetensors"}


def imports(path, *, top_level):
    """Modules imported by a file: at module level (type-checking blocks apart), or anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.stem in ORDER and p.parent.name == "robust_zoo"], ids=lambda p: p.stem
)
def test_imports_point_down(path):
    allowed = set(ORDER[: ORDER.index(path.stem)])
    own = {m.split(".")[1] for m in imports(path, top_level=True) if m.startswith("robust_zoo.")}
    assert own & set(ORDER) <= allowed
    assert not own & {"cli", "training"}


def test_every_module_has_its_place():
    core = {p.stem for p in MODULES if p.parent.name == "robust_zoo"} - {"__init__", "__main__"}
    assert core == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_light_modules_do_not_import_torch(path):
    if path.stem in LIGHT or path.parent.name == "cli":
        assert not {m.split(".")[0] for m in imports(path, top_level=True)} & (HEAVY | {"requests", "huggingface_hub"})


def test_the_package_does_not_import_training():
    for path in MODULES:
        if path.parent.name != "cli":
            assert not any(m.startswith("robust_zoo.training") for m in imports(path, top_level=False)), path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["list", "--json"],
        ["info", "resnet50_l2_eps3"],
        ["download", "--help"],
        ["verify"],
        ["cache", "ls"],
    ],
    ids=" ".join,
)
def test_light_commands_leave_torch_out(arguments):
    code = (
        "import sys\nfrom robust_zoo.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as e: assert not e.code, e.code\n"
        "heavy = {'torch', 'timm', 'torchvision', 'numpy', 'requests', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_importing_the_package_is_light():
    code = (
        "import robust_zoo, sys; robust_zoo.list_models(); assert not {'torch', 'timm', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unsafe_calls_appear_nowhere():
    """torch.load only with weights_only=True; never dill, pickle.load, or torch.hub's downloader."""
    for path in [*MODULES, *TRAINING, ROOT / "hubconf.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            if call.endswith("torch.load"):
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
            assert "load_state_dict_from_url" not in call and not call.startswith(("dill.", "pickle.")), (path, call)
            assert call not in ("eval", "exec"), (path, call)


@pytest.mark.parametrize("path", [*MODULES, *TRAINING], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_modules_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250
