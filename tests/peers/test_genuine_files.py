"""Files by the authors' own code, of the second generation: converted as a row says, they give that code's logits.

timm 0.6.7 is what ARES, EasyRobust and most authors used; RobustBench ships the others' networks and wrappers;
open_clip's visual tower is what robust CLIP encoders are. All are fetched, never kept. A process of its own builds
theirs with random weights, saves its state, and computes logits in float64. What training scripts put around a state is
written as tests/support/file_layouts.py has it, but for timm's.
"""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from file_layouts import WRITERS, under
from safetensors.torch import load_file

from robust_zoo.architectures.build import build
from robust_zoo.errors import VerificationFailed
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get
from robust_zoo.weights.convert import convert

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

_THEIRS = """
import sys, types
root, name, statistics, out = sys.argv[1:]
sys.path.insert(0, root)
for package in ("robustbench", "robustbench.model_zoo", "robustbench.model_zoo.architectures"):
    stub = sys.modules[package] = types.ModuleType(package)  # the real ones import what only downloads need
    stub.__path__ = [f"{root}/{package.replace('.', '/')}"]
import argparse, json, os, timm, torch
from torch import nn
MEAN, STD = json.loads(statistics)


def robustbench(module):
    return __import__(f"robustbench.model_zoo.architectures.{module}", fromlist=["x"])


def raresnet50():
    peng = robustbench("robustarch_wide_resnet")
    return peng.NormalizedConfigurableModel(
        MEAN, STD, stage_widths=[288, 576, 1120, 2160], kernel=3, strides=[2] * 4, dilation=1,
        activation_layer=[nn.SiLU] * 3, norm_layer=[nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d],
        group_widths=[36, 72, 140, 270], depths=[5, 8, 13, 1], bottleneck_multipliers=[0.25] * 4,
        downsample_norm=nn.BatchNorm2d, dense_ratio=None, stem_type=peng.Stem, stem_width=96, stem_kernel=7,
        stem_downsample_factor=2, stem_patch_size=None, se_ratio=0.25, se_activation=nn.ReLU,
    )


def open_clip():
    return __import__("open_clip").create_model("ViT-B-32-quickgelu", pretrained=None).visual


theirs = {
    "raresnet50_peng2023_linf_eps4": raresnet50,
    "vit_small_patch16_224_convstem_singh2023_linf_eps4":
        lambda: robustbench("convstem_models").get_convstem_models("vit_s_cvst"),
    "convnext_tiny_convstem_singh2023_linf_eps4":
        lambda: robustbench("convstem_models").get_convstem_models("convnext_t_cvst"),
    "swin_base_patch4_window7_224_xu2024_linf_eps4": lambda: robustbench("MIMIR_swin_transformer").build_swin_base(),
    "xcit_medium_12_p16_224_debenedetti2022_linf_eps4":
        lambda: robustbench("xcit").debenedetti2022light_xcit_m12_imagenet_linf(),
    "vit_base_patch32_clip_quickgelu_224_schlarmann2024_fare_linf_eps4": open_clip,
    "vit_base_patch32_clip_quickgelu_224_schlarmann2024_tecoa_linf_eps4": open_clip,
}
builder = name.partition("_gelu")[0] if "_gelu" in name else name.rpartition("_linf")[0].rpartition("_")[0]
more = {"act_layer": timm.models.layers.get_act_layer("gelu")} if "_gelu" in name else {}
torch.manual_seed(0)
model = theirs[name]() if name in theirs else timm.create_model(builder, **more)
model.eval()
with torch.no_grad():
    for key, tensor in model.state_dict().items():  # scales and shifts of norms and layers are 1 and 0, or tiny
        if tensor.ndim == 1 and tensor.is_floating_point() and tensor.numel() > 3:
            scale = key.endswith(("weight", "running_var")) or "gamma" in key
            tensor.uniform_(0.5, 1.5) if scale else tensor.normal_(std=0.1)
    for key, tensor in model.state_dict().items():
        if key.startswith("normal"):  # in Singh's file it is not to the digit what RobustBench has
            tensor.copy_(torch.tensor(MEAN if key.endswith("mean") else STD).view(tensor.shape))
    images = torch.rand(2, 3, 224, 224, dtype=torch.float64)
    if "rodriguezmunoz" in name:  # as timm's train.py saves: its own saver, its own average
        from timm.utils import CheckpointSaver, ModelEmaV2
        ema = ModelEmaV2(model)
        for p in model.parameters():
            p.add_(0.01 * torch.randn_like(p))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        args = argparse.Namespace(model="x", lr=0.1, mean=None)
        folder = out + ".folder"
        os.mkdir(folder)
        saver = CheckpointSaver(model, optimizer, args, ema, checkpoint_dir=folder, recovery_dir=folder)
        saver.save_checkpoint(0, 70.0)
        os.replace(folder + "/last.pth.tar", out + ".saved")
        model = ema.module
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    own = any(key.startswith("normal") for key in state)  # whether it normalises by itself
    mean, std = (torch.tensor(s, dtype=torch.float64).view(3, 1, 1) for s in (MEAN, STD))
    torch.save((state, images, model.double()(images if own else (images - mean) / std)), out)
"""

# Rows, of a network that RobustBench has, or of timm's own.
ROBUSTBENCH = (
    "raresnet50_peng2023_linf_eps4",
    "vit_small_patch16_224_convstem_singh2023_linf_eps4",
    "convnext_tiny_convstem_singh2023_linf_eps4",
    "swin_base_patch4_window7_224_xu2024_linf_eps4",
    "xcit_medium_12_p16_224_debenedetti2022_linf_eps4",
)
OPEN_CLIP = (
    "vit_base_patch32_clip_quickgelu_224_schlarmann2024_fare_linf_eps4",
    "vit_base_patch32_clip_quickgelu_224_schlarmann2024_tecoa_linf_eps4",
)
OLD_TIMM = (
    "swin_small_patch4_window7_224_liu2023_linf_eps4",
    "convnext_small_liu2023_linf_eps4",
    "vit_small_patch16_224_liu2023_linf_eps4",
    "swin_base_patch4_window7_224_mo2022_linf_eps4",
    "swin_base_patch4_window7_224_rodriguezmunoz2024_linf_eps4",
    "resnet50_gelu_debenedetti2022_linf_eps4",
    "vgg16_mao2022_linf_eps4",
    "vit_base_patch32_224_mao2022_linf_eps4",
    "efficientnet_b0_mao2022_linf_eps4",
    "densenet121_mao2022_linf_eps4",
    "resnest50d_mao2022_linf_eps4",
    "seresnet50_mao2022_linf_eps4",
)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The folders of RobustBench with the timm that it asks for, of the older timm, and of open_clip with today's."""
    folders = {}
    for name, packages in (
        ("new", ["robustbench==1.1.1", "timm==1.0.9"]),
        ("old", ["timm==0.6.7"]),
        ("clip", ["open_clip_torch==3.3.0", "ftfy==6.3.1", "wcwidth==0.2.13", "regex==2025.11.3"]),
    ):
        folders[name] = tmp_path_factory.mktemp(name)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folders[name])]
        subprocess.run([*pip, *packages], check=True)
    return folders


def off(model, images, logits):
    """The largest difference, relative to the largest logit."""
    with torch.no_grad():
        return ((model(images) - logits).abs().max() / logits.abs().max()).item()


def laid_out(row, state):
    """The file of a row, of a state that may have a normaliser in it already."""
    if row.format.name in ("robarch", "revisiting_at"):  # theirs, and what the script wraps it in
        return under("base_model.", state) if row.format.name == "revisiting_at" else {
            "state_dict": under("module.", state), "epoch": 1, "optimizer": {},
        }  # fmt: skip
    if "_fare_" in row.name:  # alone; only TeCoA's code puts it into a dict
        return state
    other = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    return WRITERS[row.format.name](state, other, row.preprocessing.mean, row.preprocessing.std)


@pytest.mark.parametrize("name", [*ROBUSTBENCH, *OPEN_CLIP, *OLD_TIMM])
def test_logits_of_the_authors(name, libraries, tmp_path):
    row, out = get(name), tmp_path / "theirs.pt"
    library = "new" if name in ROBUSTBENCH else "clip" if name in OPEN_CLIP else "old"
    root, p = libraries[library], row.preprocessing
    run = [sys.executable, "-W", "ignore", "-c", _THEIRS, str(root), name, json.dumps([p.mean, p.std]), str(out)]
    subprocess.run(run, check=True)
    state, images, logits = torch.load(out, weights_only=True)
    out.unlink()
    file, genuine = tmp_path / "a.pth", tmp_path / "theirs.pt.saved"
    if genuine.exists():
        genuine.rename(file)
    else:
        torch.save(laid_out(row, state), file)
    told = {"mean": p.mean, "std": p.std, "num_classes": p.num_classes, "model": row.name}
    convert(file, tmp_path / "ours", row.network, {}, format=row.format, **told)
    model = build(row.network.timm, **row.network.arguments).eval()
    model.load_state_dict(load_file(tmp_path / "ours"))
    ours = PixelModel(model, p.mean, p.std).double()
    assert logits.std() > 0.01 and off(ours, images, logits) < 1e-5
    if row.format.name == "timm_ema":  # the other network of the same file is another network
        convert(file, tmp_path / "raw", row.network, {}, format=load_registry().formats["state_dict"], **told)
        model.float().load_state_dict(load_file(tmp_path / "raw"))
        assert off(PixelModel(model, p.mean, p.std).double(), images, logits) > 1e-3
    if row.network.keys != "same":
        with pytest.raises(VerificationFailed, match="not those of this architecture"):
            convert(file, tmp_path / "x", replace(row.network, keys="same"), {}, format=row.format, **told)
    if "gelu" in name:  # as another activation the same tensors load, and are another network
        other = build(row.network.timm.replace("_quickgelu", ""), num_classes=p.num_classes).eval()
        other.load_state_dict(load_file(tmp_path / "ours"))
        assert off(PixelModel(other, p.mean, p.std).double(), images, logits) > 1e-3
