"""Checkpoints with random weights, and what a publication of them needs."""

from dataclasses import replace

import torch

from robust_zoo.architectures.build import build
from robust_zoo.architectures.config import config_of
from robust_zoo.files import read_hashed
from robust_zoo.publishing import rehearsal, stranger
from robust_zoo.publishing.folder import folder_of
from robust_zoo.registry.lookup import get
from robust_zoo.weights.convert import convert
from robust_zoo.weights.safetensors_file import write_safetensors
from robust_zoo.weights.verify import Weights, provenance

CARD = {"README.md": b"---\nlicense: mit\n---\n\n# A card\n\n![](curve.svg)\n", "curve.svg": b"<svg/>"}
NARROW = {"base_width": 16, "layers": [1, 1, 1, 1]}  # of a wide_resnet50_4 of 0.9 GB


def narrow(name, **arguments):
    """The row of a ResNet-50, with a network of a few million parameters that is said to timm in the same way."""
    row = get(name)
    network = replace(row.network, arguments=arguments | NARROW, plain_arguments=arguments | NARROW)
    return replace(row, network=network, preprocessing=replace(row.preprocessing, input_size=(3, 64, 64)))


WIDE = narrow("wide_resnet50_4_l2_eps3")
SECOND = narrow("wide_resnet50_2_gelu_liu2023_linf_eps4", act_layer="gelu")  # of the second generation


def random_weights(checkpoint, folder):
    """Verified weights of its network that are not trained; its running statistics are of noise."""
    torch.manual_seed(0)
    network, p = checkpoint.network, checkpoint.preprocessing
    model = build(network.timm, **{"num_classes": p.num_classes, **network.arguments})
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of all that it sees
    with torch.no_grad():
        model.train()(torch.randn(2, *p.input_size[:1], 64, 64))
    raw, path = folder / "raw.safetensors", folder / f"{checkpoint.name}.safetensors"
    sha256 = write_safetensors(raw, model.state_dict(), {})
    about = {"mean": p.mean, "std": p.std, "num_classes": p.num_classes, "format": checkpoint.format}
    convert(raw, path, network, provenance(checkpoint, sha256), sha256=sha256, **about)
    content, sha256 = read_hashed(path)
    return Weights(path, sha256, "pinned", "random", content)


def folder_for(checkpoint, weights):
    return folder_of(checkpoint, weights, config_of(checkpoint), CARD)


def logits_of(model, checkpoint):
    """What a model gives of a fixed image of the checkpoint's size."""
    image = torch.rand(1, *checkpoint.preprocessing.input_size, generator=torch.Generator().manual_seed(0))
    model = model.eval()
    # In storage of their own: where tensors begin at other addresses, kernels add in another order.
    model.load_state_dict({key: tensor.clone() for key, tensor in model.state_dict().items()}, assign=True)
    with torch.no_grad():
        return model(image)


def rehearse_here(monkeypatch):
    """Rehearsals are done in this process, without the seconds that a process of its own takes."""
    monkeypatch.setattr(rehearsal, "_asked", lambda request, folder, out: stranger.answer(request)["gives"])
