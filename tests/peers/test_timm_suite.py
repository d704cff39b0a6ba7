"""timm's own test file, run on the names this project gives to timm. The file is fetched, never kept."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import timm

pytestmark = pytest.mark.peers

# One name of each class, stem and head that is ours (larger ones have other numbers only), and checkpoint names of each
# network class.
NAMES = (
    "wide_resnet50_4", "shufflenet_v2_x1_0", "resnet18_x0_25", "resnet10_x0_5_s2",
    "raresnet50", "convnext_tiny_convstem", "convnext_base_convstem", "vit_small_patch16_224_convstem",
    "vit_medium_patch16_224_convstem", "xcit_medium_12_p16_224", "swin_base_patch4_window7_224_eps1e6",
    "resnet18_l2_eps3", "wide_resnet50_4_l2_eps0", "densenet_l2_eps3", "mnasnet_l2_eps0", "mobilenet_l2_eps3",
    "shufflenet_l2_eps0", "vgg16_bn_l2_eps3", "resnext50_32x4d_l2_eps0", "resnet18_x0_25_cifar10_l2_eps0_5",
)  # fmt: skip

# It prunes a network after each layer, which timm leaves out of its own CI too; these classes are timm's.
SLOW = "test_prune_intermediate_layers_contract and (vit or xcit or swin)"

EVERY_NAME_RAN = {
    "test_model_forward", "test_model_backward", "test_model_default_cfgs", "test_model_forward_features",
    "test_model_forward_intermediates", "test_model_forward_intermediates_features",
}  # fmt: skip


def left_out(name: str) -> set[str]:
    """What timm's file does not ask of any ViT or XCiT (its NON_STD_FILTERS)."""
    return {"test_model_default_cfgs", "test_model_forward_features"} if name.startswith(("vit_", "xcit_")) else set()


_PLUGIN = """
import robust_zoo, timm
robust_zoo.register_with_timm()
names = set({names!r})
everything = timm.list_models
bundled = set(robust_zoo.list_models(bundled=True))  # the only weights there are without a network


def ours(*args, **kwargs):
    kwargs.pop("module", None)  # timm's files whose networks have forward_intermediates; all of ours have it
    wanted = names & bundled if kwargs.get("pretrained") else names
    return [n for n in everything(*args, **kwargs) if n.split(".")[0] in wanted]


timm.list_models = ours
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's tests of the installed version, from its source distribution."""
    folder = tmp_path_factory.mktemp("timm")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
            "-d",
            str(folder),
            f"timm=={timm.__version__}",
        ],
        check=True,
    )
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("timm-*/tests"))


def test_timms_own_tests_pass(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(_PLUGIN.format(names=NAMES))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}
    wanted = f"({' or '.join(NAMES)}) and not ({SLOW})"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "ours", "-p", "no:cacheprovider", "-q", "-rA", "-c", os.devnull,
         "--rootdir", str(suite.parent), "-W", "ignore", "-k", wanted, str(suite / "test_models.py")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    ran = re.findall(r"^PASSED \S*::(\w+)\[(\S+)\]$", run.stdout, re.MULTILINE)
    tests_of = {name: {test for test, case in ran if name in case.split("-")} for name in NAMES}
    missing = {name: EVERY_NAME_RAN - tests - left_out(name) for name, tests in tests_of.items()}
    assert not any(missing.values()), missing
