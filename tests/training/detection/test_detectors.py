"""A checkpoint as a detector's backbone; detectors trained, tested and reported by the protocol `detection`."""

import json
from dataclasses import asdict, replace
from functools import partial

import pytest
import timm
import torch
from fault_table import command_here, refused
from object_files import squares
from PIL import Image
from torchvision.models.detection import FasterRCNN
from verbs import run

import robust_zoo
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.training.detection.backbone import DetectionBackbone
from robust_zoo.training.detection.detectors import batches, detections, detector
from robust_zoo.training.detection.folders import open_scenes
from robust_zoo.training.transfer import cells, plots
from robust_zoo.training.transfer.protocols import detection as protocol
from robust_zoo.training.transfer.protocols.detection import Detection, detection
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.report import Figure
from robust_zoo.training.transfer.sample_suite import digits
from robust_zoo.training.transfer.sweep import TransferPlan, transfer

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
CPU = torch.device("cpu")
TINY = Detection(side=32, longest=32, maps=2, width=8, samples=8, epochs=1, batch_size=8, part="head")
SMALL = replace(TINY, optimizer="adamw", lr=0.004, epochs=6, maps=3, width=16, samples=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return squares(tmp_path_factory.mktemp("objects") / "squares")


@pytest.fixture(scope="module")
def trained(folder):
    """Of the head alone, with the network before and after."""
    return detection(get(NAME), open_scenes(str(folder)), SMALL, device=CPU)


def test_the_maps_are_the_networks_own():
    """Those of the whole verified model; sizes by their strides; the statistics are the row's."""
    backbone = robust_zoo.detection_backbone(NAME, width=8).eval()
    whole, row = robust_zoo.create_model(NAME).eval(), get(NAME)
    images = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        last = backbone.body(images)[-1]
        maps = backbone(images)
        assert torch.allclose(last, whole.forward_features(images), atol=1e-5)
    assert backbone.strides == (1, 2, 4, 8, 16) and backbone.out_channels == 8
    assert [tuple(m.shape) for m in maps.values()] == [(2, 8, 48 // s, 64 // s) for s in backbone.strides]
    assert list(maps) == ["0", "1", "2", "3", "pool"]
    assert (backbone.mean, backbone.std) == (row.preprocessing.mean, row.preprocessing.std)


@pytest.mark.parametrize(
    ("name", "options", "strides"),
    [
        ("swin_small_patch4_window7_224", {"depths": (1,) * 4, "num_heads": (1,) * 4}, (4, 8, 16, 32, 64)),
        ("vit_tiny_patch16_224", {"depth": 3}, (16, 32)),
        ("convnext_atto", {"depths": (1,) * 4}, (4, 8, 16, 32, 64)),
    ],
)
def test_networks_of_every_kind_give_a_pyramid(name, options, strides):
    """Channels first, whatever timm's order; a ViT has one map; images need not be square, nor of the usual size."""
    size = {} if name.startswith("convnext") else {"dynamic_img_size": True}
    body = timm.create_model(name, features_only=True, **size, **options)
    backbone = DetectionBackbone(body, 4, 8, (0.5,) * 3, (0.5,) * 3, frozen=False).eval()
    assert backbone.strides == strides
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 96, 160))
    assert [tuple(m.shape) for m in maps.values()] == [(1, 8, -(-96 // s), -(-160 // s)) for s in strides]


def test_torchvisions_own_call_takes_it():
    backbone = robust_zoo.detection_backbone(NAME, width=8)
    model = FasterRCNN(backbone, 3, 64, 64, backbone.mean, backbone.std).eval()
    assert model.transform.image_mean == get(NAME).preprocessing.mean
    with torch.no_grad():
        assert set(model([torch.rand(3, 64, 64)])[0]) == {"boxes", "labels", "scores"}


@pytest.mark.parametrize("options", [{"maps": 0}, {"maps": -1}, {"maps": 1.5}, {"width": 0}, {"width": "8"}])
def test_a_pyramid_that_cannot_be_is_refused(options):
    """Without it 0 maps are all of them, and -1 all but one."""
    with pytest.raises(UsageError, match="a pyramid cannot have") as error:
        robust_zoo.detection_backbone(NAME, **options)
    assert error.value.expected and error.value.next


def test_a_frozen_network_stays_to_the_bit(trained):
    outcome, model = trained
    whole = robust_zoo.create_model(NAME).state_dict()
    kept = model.backbone.body.state_dict()
    assert kept and all(torch.equal(value, whole[name]) for name, value in kept.items())
    assert outcome.details["losses"][-1] < 0.7 * outcome.details["losses"][0]


def test_batch_norm_keeps_its_statistics_in_training():
    backbone = robust_zoo.detection_backbone(NAME, width=8).train()
    before = {name: value.clone() for name, value in backbone.body.named_buffers()}
    backbone(torch.rand(2, 3, 32, 32))["0"].sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.body.named_buffers())
    assert all(p.grad is not None for name, p in backbone.body.named_parameters() if not name.startswith("fc"))
    assert not any(p.requires_grad for p in robust_zoo.detection_backbone(NAME, frozen=True).body.parameters())


def test_it_finds_what_it_was_trained_on(trained):
    """Squares of two colours, by the figures and by what it says of an image itself."""
    outcome, _ = trained
    ap = outcome.details["ap"]["boxes"]
    assert ap["ap50"] > 0.6 and outcome.n == 16 and outcome.correct >= 12
    assert outcome.mean_per_class == 100 * ap["ap"] and ap["ap_large"] is None


def test_a_seed_decides_everything(folder, trained):
    target = open_scenes(str(folder))
    losses = [detection(get(NAME), target, TINY, seed=s, device=CPU)[0].details["losses"] for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_masks_are_learnt_too(folder):
    backbone = robust_zoo.detection_backbone(NAME, maps=2, width=8)
    model = detector(backbone, 2, masks=True, side=32, longest=32, samples=8).train()
    scenes = open_scenes(str(folder)).train
    [batch] = batches(scenes, [[(0, False), (1, True)]], masks=True)
    losses = model([image for image, _ in batch], [target for _, target in batch])
    assert losses["loss_mask"] > 0
    with torch.no_grad():
        found = detections(model.eval()([batch[0][0]])[0])
    assert found.masks is not None and found.masks.shape == (len(found.scores), 32, 32)


def test_the_command_trains_tests_and_reports(tmp_path, folder):
    settings = tmp_path / "small.toml"
    settings.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in asdict(TINY).items()))
    words = ("transfer", NAME, "-d", folder, "-p", "detection", "--settings", settings, "--out", tmp_path / "cells")
    result = run(*words, "--csv", tmp_path / "t.csv", "--plot", tmp_path / "t.png", "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    assert "16 objects to test on" in result.stderr and "| dataset | model | AP, one seed | metric" in result.stdout
    assert "COCO's figures of detectors" in result.stdout and "squares | " in result.stdout
    [entry] = cells.read_cells(tmp_path / "cells")
    assert entry["metric"] == "AP" and entry["n"] == 16 and entry["settings"]["part"] == "head"
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith(f"squares,{NAME},")
    file = next((tmp_path / "cells").glob("*.json"))
    entry["details"]["ap"]["boxes"]["ap"] = 1.5
    file.write_text(json.dumps(entry))
    refused(1, "transfer", "report", tmp_path / "cells", run=command_here, fields=4)


def test_a_bad_test_image_is_said_before_the_training(tmp_path, monkeypatch):
    """A mended image is another cell's: the training would have been for nothing."""
    monkeypatch.setattr(protocol, "_train", lambda *_: pytest.fail("it is trained"))
    folder = squares(tmp_path / "x", train=2, val=2)
    Image.new("RGB", (31, 32)).save(folder / "val" / "1.png")
    with pytest.raises(VerificationFailed, match="another size"):
        detection(get(NAME), open_scenes(str(folder)), TINY, device=CPU)
    (folder / "val" / "1.png").write_bytes((folder / "val" / "0.png").read_bytes())
    file = folder / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    del content["annotations"][-1]["segmentation"]
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="cannot read masks"):
        detection(get(NAME), open_scenes(str(folder)), replace(TINY, masks=True), device=CPU)


def test_what_detection_is_not_is_said(tmp_path, folder):
    start = ("transfer", NAME, "-p", "detection", "--out", tmp_path / "cells", "--cache-dir", tmp_path / "cache")
    assert "--norm" in refused(2, *start, "-d", folder, "--norm", "l2", "--eps", "0.5", run=command_here, fields=4)
    assert "--keep" in refused(2, *start, "-d", folder, "--keep", run=command_here, fields=4)
    refused(2, *start, "-d", tmp_path / "nowhere", run=command_here, fields=4)
    refused(2, *start, "--suite", "sample", run=command_here, fields=4)
    assert not (tmp_path / "cells").exists()
    with pytest.raises(UsageError, match="not what this protocol"):
        transfer([NAME], [digits], TransferPlan("detection", Detection()), Workspace(tmp_path, tmp_path))
    with pytest.raises(UsageError, match="part: one of all, head"):
        Detection(part="last-2")
    target = partial(open_scenes, str(folder))
    with pytest.raises(UsageError, match="not what this protocol"):
        transfer([NAME], [target], TransferPlan(), Workspace(tmp_path, tmp_path, progress=False))


def test_the_picture_is_of_average_precision(tmp_path, monkeypatch):
    """Which has no interval, and so no bars, where there is one seed; accuracies keep their words."""
    shown = []
    monkeypatch.setattr(plots, "title", lambda canvas, *words: shown.append([words[-1], *_labels(canvas)]))
    model = cells.Model.of(get(NAME))
    ap = Figure(model, "d", "detection", "AP", 30.0, None, None, 1, 16, None, "")
    plots.draw_all([ap], tmp_path / "ap.png")
    plots.draw_all([replace(ap, metric="top-1", interval=(20.0, 40.0))], tmp_path / "accuracy.png")
    assert shown == [
        ["Radii are evenly spaced.", "d: AP by L2 radius", "AP, %"],
        ["Bars: 95 % interval of 16 images. Radii are evenly spaced.", "d: accuracy by L2 radius", "accuracy, %"],
    ]


def _labels(canvas):
    [axes] = canvas.axes
    return axes.get_title(loc="left") or axes.get_title(), axes.get_ylabel()
