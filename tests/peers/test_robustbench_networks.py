"""The networks of the second generation against RobustBench's own code, on the timm that it asks for.

Both are fetched, never kept. A process of its own builds theirs with random weights and computes logits in float64.
"""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from robust_zoo.architectures.build import build

pytestmark = pytest.mark.peers

_THEIRS = """
import sys, types
root, name, out = sys.argv[1:]
sys.path.insert(0, root)
for package in ("robustbench", "robustbench.model_zoo", "robustbench.model_zoo.architectures"):
    stub = sys.modules[package] = types.ModuleType(package)  # the real ones import what only downloads need
    stub.__path__ = [f"{root}/{package.replace('.', '/')}"]
import timm, torch
assert timm.__version__ == "1.0.9"
from robustbench.model_zoo.architectures import MIMIR_swin_transformer as mimir
from robustbench.model_zoo.architectures import convstem_models as singh
from robustbench.model_zoo.architectures import robustarch_wide_resnet as peng
from robustbench.model_zoo.architectures import xcit as debenedetti
from torch import nn


def raresnet(depths, widths, group_widths):
    return peng.ConfigurableModel(
        stage_widths=widths, kernel=3, strides=[2] * 4, dilation=1, activation_layer=[nn.SiLU] * 3,
        norm_layer=[nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d], group_widths=group_widths, depths=depths,
        bottleneck_multipliers=[0.25] * 4, downsample_norm=nn.BatchNorm2d, dense_ratio=None, stem_type=peng.Stem,
        stem_width=96, stem_kernel=7, stem_downsample_factor=2, stem_patch_size=None, se_ratio=0.25,
        se_activation=nn.ReLU,
    )


def rawide():
    model = peng.get_model("ra_wrn101_2")
    model.normalization = nn.Identity()  # the images are normalised
    return model


def vit_medium():
    model = timm.create_model("deit3_medium_patch16_224")
    model.patch_embed.proj = singh.ConvBlock(48)
    model.patch_embed.proj.stem[-1] = nn.Conv2d(384, 512, 1)
    return model


theirs = {
    "convnext_tiny_convstem": lambda: singh.get_convstem_models("convnext_t_cvst"),
    "convnext_small_convstem": lambda: singh.get_convstem_models("convnext_s_cvst"),
    "convnext_base_convstem": lambda: singh.get_convstem_models("convnext_b_cvst"),
    "convnext_large_convstem": lambda: singh.get_convstem_models("convnext_l_cvst"),
    "vit_small_patch16_224_convstem": lambda: singh.get_convstem_models("vit_s_cvst").model,
    "vit_medium_patch16_224_convstem": vit_medium,
    "vit_base_patch16_224_convstem": lambda: singh.get_convstem_models("vit_b_cvst"),
    "xcit_medium_12_p16_224": debenedetti.debenedetti2022light_xcit_m12_imagenet_linf,
    "xcit_large_12_p16_224": debenedetti.debenedetti2022light_xcit_l12_imagenet_linf,
    "swin_base_patch4_window7_224_eps1e6": mimir.build_swin_base,
    "swin_large_patch4_window14_224_eps1e6": mimir.build_swin_large,
    "raresnet50": lambda: raresnet([5, 8, 13, 1], [288, 576, 1120, 2160], [36, 72, 140, 270]),
    "raresnet101": lambda: raresnet([7, 11, 18, 1], [336, 672, 1328, 2624], [42, 84, 166, 328]),
    "rawide_resnet101_2": rawide,
}
torch.manual_seed(0)
model = theirs[name]().eval()
with torch.no_grad():
    for key, tensor in model.state_dict().items():  # scales and shifts of norms and layers are 1 and 0, or tiny
        if tensor.ndim == 1 and tensor.is_floating_point():
            scale = key.endswith(("weight", "running_var")) or "gamma" in key
            tensor.uniform_(0.5, 1.5) if scale else tensor.normal_(std=0.1)
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.save((state, images, model.double()(images)), out)
"""

# The keys in the authors' files -> ours: the first pattern that matches, once; None drops the tensor.
_RENAMES = {
    "convnext": [(r"^stem\.stem\.", "stem.")],
    "vit": [(r"^patch_embed\.proj\.stem\.", "patch_embed.proj.")],
    "xcit": [],
    "swin": [
        (r"relative_position_index$|attn_mask$", None),
        (r"^layers\.(\d)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample."),
        (r"^head\.", "head.fc."),
    ],
    "ra": [
        (r"^stem\.stem\.stem\.0\.", "conv1."),
        (r"^stem\.stem\.stem\.1\.", "bn1."),
        (
            r"^stages\.stage(\d)\.stage\d-block(\d+)\.(F\.a\.0|F\.b\.0|F\.b\.1|F\.se|F\.c\.0|F\.c\.1|proj)\.",
            lambda m: f"stages.{int(m[1]) - 1}.{m[2]}.{_BLOCK[m[3]]}.",
        ),
    ],
}
_BLOCK = {
    "F.a.0": "conv1", "F.b.0": "conv2", "F.b.1": "bn2", "F.se": "se", "F.c.0": "conv3", "F.c.1": "bn3",
    "proj": "downsample",
}  # fmt: skip

NAMES = (
    "convnext_tiny_convstem", "convnext_small_convstem", "convnext_base_convstem", "convnext_large_convstem",
    "vit_small_patch16_224_convstem", "vit_medium_patch16_224_convstem", "vit_base_patch16_224_convstem",
    "xcit_medium_12_p16_224", "xcit_large_12_p16_224",
    "swin_base_patch4_window7_224_eps1e6", "swin_large_patch4_window14_224_eps1e6",
    "raresnet50", "raresnet101", "rawide_resnet101_2",
)  # fmt: skip


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustbench")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, "robustbench==1.1.1", "timm==1.0.9"], check=True)
    return folder


def renamed(state, rules):
    new = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            if re.search(pattern, key):
                key = None if replacement is None else re.sub(pattern, replacement, key)
                break
        if key is not None:
            assert key not in new
            new[key] = tensor
    return new


def off(model, images, logits):
    """The largest difference, relative to the largest logit."""
    with torch.no_grad():
        return ((model(images) - logits).abs().max() / logits.abs().max()).item()


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_the_authors(name, libraries, tmp_path):
    out = tmp_path / "theirs.pt"
    run = [sys.executable, "-W", "ignore", "-c", _THEIRS, str(libraries), name, str(out)]
    subprocess.run(run, check=True)
    state, images, logits = torch.load(out, weights_only=True)
    out.unlink()
    with torch.device("meta"):
        keys = build(name).state_dict().keys()
    rules = _RENAMES[next(family for family in _RENAMES if name.startswith(family))]
    state = renamed(state, rules)
    assert state.keys() == keys
    model = build(name).eval()
    model.load_state_dict(state)
    model.double()
    assert logits.std() > 0.01 and off(model, images, logits) < 1e-9

    eps = {id(m): m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)}
    for module in model.modules():  # the same file, read with other activations, or with another eps
        if id(module) in eps:
            module.eps = 1e-5
    assert not eps or off(model, images, logits) > 1e-6
    for module in model.modules():
        if id(module) in eps:
            module.eps = eps[id(module)]
    for parent in list(model.modules()):
        for child, module in parent.named_children():
            if isinstance(module, nn.GELU | nn.SiLU):
                setattr(parent, child, nn.ReLU())
    assert off(model, images, logits) > 1e-3
