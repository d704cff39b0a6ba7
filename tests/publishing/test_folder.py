"""What is published: a function of row and bytes, loaded by timm alone, in another process, to the same logits."""

import io
import json
import re
from dataclasses import replace

import pytest
import timm
import torch
from publications import CARD, NARROW, WIDE, folder_for, random_weights

from robust_zoo.architectures.config import config_of, in_repository
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.factory import create_model
from robust_zoo.files import sha256_of
from robust_zoo.publishing import rehearsal, stranger
from robust_zoo.publishing.folder import folder_of, write
from robust_zoo.publishing.licences import TEXTS, licence_text
from robust_zoo.publishing.rehearsal import rehearse
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.exported import exported
from robust_zoo.weights.passing_on import require_licences
from robust_zoo.weights.safetensors_file import write_safetensors

BUNDLED = "resnet18_x0_25_cifar10_l2_eps0_5"
ROWS = [get(name) for name in list_models()]
NETWORKS = {(row.network.name, row.preprocessing): row for row in ROWS if row.network.plain_timm}
FEW = ("wide_resnet50_4", "vit_base_patch32_clip_quickgelu_224", "resnet50_gelu", "efficientnet_b3")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The folder of a narrow wide_resnet50_4, written: not to be changed."""
    place, row = tmp_path_factory.mktemp("wide"), WIDE
    folder = folder_for(row, random_weights(row, place))
    write(folder, place / row.name)
    return folder, place / row.name


def test_the_bytes_are_ours_and_the_rest_is_a_function(tmp_path):
    row = get(BUNDLED)
    folders = [folder_for(row, ensure(row)) for _ in range(2)]
    for number, folder in enumerate(folders):
        write(folder, tmp_path / str(number))
    for name in ("LICENSE", "README.md", "config.json", "curve.svg", "model.safetensors"):
        one, other = ((tmp_path / str(number) / name).read_bytes() for number in range(2))
        assert one == other and sha256_of(tmp_path / "0" / name) == folders[0].hashes[name]
        assert len(one) == folders[0].sizes[name]
    assert folders[0].hashes["model.safetensors"] == row.sha256
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == sorted(folders[0].names)


def test_what_lies_there_otherwise_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write(folder_for(get(BUNDLED), ensure(get(BUNDLED))), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{row.network.name}-{i}", marks=() if row.network.name in FEW else (pytest.mark.peers,))
        for i, row in enumerate(NETWORKS.values())
    ],
)
def test_a_config_makes_the_network_as_timm_and_transformers_read_it(row):
    """transformers hands the builder `num_classes` and `model_args` alone: they must suffice."""
    config = json.loads(json.dumps(config_of(row)))
    assert "num_classes" not in config["model_args"] and config["num_classes"] == row.preprocessing.num_classes
    with torch.device("meta"):
        theirs = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
        ours = create_model(row, pretrained=False)
    assert repr(theirs) == repr(ours)
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    cfg = config["pretrained_cfg"]
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in cfg.items()}.items() >= row.timm_cfg.items() - {
        ("paper_ids", "")
    }
    assert theirs.get_submodule(cfg["classifier"]) is not None and cfg.get("fixed_input_size") in (None, True)


def test_classes_are_named_where_no_one_knows_them():
    assert config_of(get(BUNDLED))["label_names"][6] == "frog"
    assert "label_names" not in config_of(get("resnet18_l2_eps3"))  # ImageNet's: timm and transformers know them
    encoder = next(row for row in ROWS if row.is_encoder)
    assert "label_names" not in config_of(encoder) and config_of(encoder)["num_classes"] == 512  # of an embedding


def test_a_stranger_loads_it_to_the_same_logits(wide):
    """In a process of its own, where this package is not imported: the real thing, once."""
    folder, out = wide
    assert json.loads((out / "config.json").read_text())["architecture"] == "wide_resnet50_2"
    rehearse(folder, out)


@pytest.mark.peers  # as the one above, with seconds of its own
def test_a_stranger_who_knows_our_networks_loads_a_bundled_one(tmp_path):
    row = get(BUNDLED)
    folder = folder_for(row, ensure(row))
    write(folder, tmp_path)
    rehearse(folder, tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model_args": {**NARROW, "act_layer": "gelu"}}, "2 x 1000 numbers"),
        ({"model_args": {**NARROW, "base_width": 32}}, "size mismatch"),
        ({"architecture": "no_such_network", "model_args": {}}, "Unknown model"),
        ({"pretrained_cfg": {"crop_pct": 1.0}}, "2 x 1000 numbers"),
    ],
    ids=["activation", "width", "name", "preprocessing"],
)
def test_a_folder_that_says_something_else_is_not_sent(wide, tmp_path, monkeypatch, changed, says):
    def here(request, folder, out):
        try:
            return stranger.answer(request)["gives"]
        except RuntimeError as error:
            raise rehearsal._failed(folder, out, "that it loads", str(error)) from None

    monkeypatch.setattr(rehearsal, "_asked", here)
    folder, _ = wide
    config = config_of(folder.checkpoint)
    cfg = config["pretrained_cfg"] | changed.pop("pretrained_cfg", {})
    folder = folder_of(folder.checkpoint, folder.weights, config | changed | {"pretrained_cfg": cfg}, CARD)
    write(folder, tmp_path)
    with pytest.raises(VerificationFailed, match="nothing was sent") as error:
        rehearse(folder, tmp_path)
    assert says in error.value.actual and all(error.value.fields.values())
    assert "plain_timm and plain_arguments of [architecture.wide_resnet50_4]" in error.value.next


def test_a_stranger_that_dies_is_an_error(wide, tmp_path):
    folder, _ = wide
    with pytest.raises(VerificationFailed, match="does not make the same network") as error:
        rehearsal._asked({"path": [], "register": False}, folder, tmp_path)
    assert "KeyError: 'folder'" in error.value.actual or "ModuleNotFoundError" in error.value.actual


def test_a_stranger_who_knows_us_is_none(wide, monkeypatch):
    _, out = wide
    request = {"path": [], "folder": str(out), "register": False, "images": [], "threads": torch.get_num_threads()}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(RuntimeError, match="robust_zoo was imported"):
        stranger.main()


@pytest.mark.parametrize("licence", sorted({row.licence for row in ROWS if row.may_be_passed_on}))
def test_every_licence_of_a_row_is_there_in_full(licence):
    row = next(row for row in ROWS if row.licence == licence and not row.bundled)
    text = licence_text(row)
    assert row.name in text and row.collection.origin in text and row.licence_from in text
    words = (
        (TEXTS / f"{licence}.txt")
        .read_text()
        .replace("{holders}", f"the authors of these weights: {row.collection.origin}")
    )
    assert words.strip("\n") in text and "{" not in text.replace("{name", "")
    assert len(words) > 1000


def test_a_licence_without_a_text_is_named():
    text = licence_text(replace(get(BUNDLED), licence="cc-by-4.0\x1b[2J"))
    assert "cc-by-4.0\\x1b[2J is at https://spdx.org" in text and "\x1b" not in text
    assert "../" not in licence_text(replace(get(BUNDLED), licence="../../../etc/passwd")).partition("-" * 78)[2][:3]
    assert "The robust_zoo authors" in licence_text(get(BUNDLED))


def test_a_file_of_ones_own_says_nothing_of_this_disk(tmp_path):
    header = {
        "name": "mine", "architecture": "resnet18", "dataset": "cifar10", "norm": "l2", "eps": "0.5",
        "training": "by hand", "preprocessing": json.dumps(vars(get(BUNDLED).preprocessing)),
    }  # fmt: skip
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, timm.create_model("resnet18", num_classes=10).state_dict(), header)
    mine = exported(path)
    with pytest.raises(UsageError, match="cannot be passed on") as error:
        require_licences([mine])
    assert error.value.next.startswith("say it: --licence LICENCE")
    folder = folder_for(in_repository(replace(mine, licence="mit"), "https://huggingface.co/ME/mine"), ensure(mine))
    text = b"".join(folder.texts.values()).decode()
    assert str(tmp_path) not in text and "https://huggingface.co/ME/mine" in text and not folder.is_registered
    other = replace(mine, network=replace(mine.network, name="resnet34", timm="resnet34", plain_timm=""))
    assert in_repository(other, "").network.published == ("resnet34", {})
    ours = replace(mine, network=replace(mine.network, name="a", timm="resnet10_x0_5", plain_timm=""))
    assert in_repository(ours, "").network.plain_timm == ""
    assert re.search(r"Licence: mit\. Who says so: whoever published them here", text)
