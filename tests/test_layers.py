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
    assert len(pieces) == len(set(pieces)) <= 57


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
        ["list", "--sort", "robust", "--under", "linf:4/255"],
        ["compare", "resnet50_linf_eps4", "resnet18_linf_eps4"],
        ["info", "resnet50_l2_eps3"],
        ["download", "--help"],
        ["plan", "--help"],
        ["sources", "resnet50_l2_eps3"],
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
        "import robust_zoo, sys, robust_zoo.visualization as v; robust_zoo.list_models(); dir(v); "
        "assert not {'torch', 'timm', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


CHILD = {"robust_zoo/weights/convert_worker.py", "robust_zoo/weights/batch_worker.py"}  # run in the contained process
UNPICKLERS = {"pickle", "_pickle", "pickletools", "dill", "cloudpickle", "joblib", "shelve", "marshal", "copyreg"}
UNPICKLING = re.compile(  # calls that unpickle what they read or receive
    r"(torch\.load|torch\.jit\.load|torch\.hub\.load|.*load_state_dict_from_url|.*\.read_pickle|.*_object(_list)?)"
)


def unsafe(code, path="x.py"):
    """What of a module's code may run code out of a file, or unpickles outside the contained process."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        if path not in CHILD:
            found += [name for name in names if name.split(".")[0] in UNPICKLERS or UNPICKLING.fullmatch(name)]
        found += [name for name in names if name in ("numpy.load", "builtins.eval", "builtins.exec")]
        # by whatever name it is called, or handed on to be called
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
            name = ast.unparse(node)
            if UNPICKLING.fullmatch(name) and path not in CHILD:
                found.append(name)
        if not isinstance(node, ast.Call):
            continue
        call, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if call == "torch.load" and keywords.get("weights_only") != "True":
            found.append(f"{call} without weights_only")
        if call in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
            found.append(f"{call} without allow_pickle=False")
        if call in ("eval", "exec", "__import__"):
            found.append(call)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import a, pickle as p",
        "def f():\n    from pickle import loads",
        "from torch import load",
        "import dill",
        "import torch\nread = torch.load",
        "torch.load(x, weights_only=True)",
        "torch.load(x)",
        "np.load(x)",
        "np.load(x, allow_pickle=True)",
        "from numpy import load",
        "torch.hub.load_state_dict_from_url(x)",
        "from torch.hub import load_state_dict_from_url",
        "pandas.read_pickle(x)",
        "dist.all_gather_object(a, b)",
        "dist.broadcast_object_list(a)",
        "eval(x)",
    ],
)
def test_an_unpickler_is_seen(code):
    assert unsafe(code)


def test_no_unpickler_outside_the_contained_process():
    """Of all code that is shipped."""
    shipped = [*ON_DISK, "hubconf.py"]
    found = {path: unsafe((ROOT / path).read_text(encoding="utf-8"), path) for path in shipped}
    assert {path: what for path, what in found.items() if what} == {}


def test_the_contained_process_alone_imports_its_workers():
    """So that none of them ever runs in the process of a user."""
    workers = {dotted(path) for path in CHILD}
    assert {p for p in ON_DISK if imports(p, top_level=False) & workers} == set()
    assert all(not unsafe((ROOT / path).read_text(encoding="utf-8"), path) for path in CHILD)


@pytest.mark.parametrize("path", ON_DISK)
def test_modules_stay_small(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 250
