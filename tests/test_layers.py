"""The house is the tree in CONTRIBUTING.md: each module in its place, imports point up, light ones stay light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = re.search(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)[1]
LISTED = [line.split()[0] for line in HOUSE.splitlines() if ".py " in line]
ON_DISK = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("robust_zoo", "training")
    for path in (ROOT / package).rglob("*.py")
    if not path.is_relative_to(ROOT / "robust_zoo" / "training")
)
FACES = [path for path in ON_DISK if path.endswith("__init__.py") and not path.endswith("cli/__init__.py")]
HEAVY = {"torch", "torchvision", "timm", "safetensors", "requests", "huggingface_hub"}


def dotted(path):
    """robust_zoo/weights/cache.py -> robust_zoo.weights.cache; training/ is shipped inside the package."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"robust_zoo.{name}" if name.startswith("training") else name


MODULES = {dotted(path): path for path in ON_DISK}


def imports(path, *, top_level):
    """Modules imported by a file: at module level (type-checking blocks apart), or anywhere."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place_and_a_line():
    assert sorted(LISTED) == [path for path in ON_DISK if path not in FACES]
    lines = [line for line in HOUSE.splitlines() if ".py " in line]
    assert all(len(line.split(maxsplit=1)) == 2 and len(line) <= 120 for line in lines)


def test_a_face_only_names_what_is_inside():
    for path in FACES:
        assert not {m for m in imports(path, top_level=True) if m.startswith("robust_zoo")}, path


@pytest.mark.parametrize("path", LISTED)
def test_imports_point_up_the_list(path):
    """Of both packages, wherever in the file they stand."""
    above = LISTED[: LISTED.index(path)]
    own = {MODULES[m] for m in imports(path, top_level=False) if m in MODULES and MODULES[m] not in FACES}
    assert own - {path} <= set(above)


def test_wings_are_floors():
    """Each wing stands in the list as one piece, so that arrows between wings cannot go round in a circle."""
    wings = ["/".join(path.split("/")[:2]) if path.count("/") > 1 else path for path in LISTED]
    pieces = [wing for wing, before in zip(wings, [None, *wings], strict=False) if wing != before]
    assert len(pieces) == len(set(pieces)) <= 40


def test_light_modules_do_not_import_torch():
    light = [line.split()[0] for line in HOUSE.splitlines() if ".py " in line and " * " not in line]
    assert len(light) > 40
    for path in [*light, *(path for path in LISTED if path.startswith("robust_zoo/cli/"))]:
        assert not {m.split(".")[0] for m in imports(path, top_level=True)} & HEAVY, path


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
    for path in [*(ROOT / path for path in ON_DISK), ROOT / "hubconf.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            if call.endswith("torch.load"):
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
            assert "load_state_dict_from_url" not in call and not call.startswith(("dill.", "pickle.")), (path, call)
            assert call not in ("eval", "exec"), (path, call)


@pytest.mark.parametrize("path", ON_DISK)
def test_modules_stay_small(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 250
