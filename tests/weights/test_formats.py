"""Files of the zoo, laid out as each [format.X] says: they convert to the same network, or are refused by name."""

import copy
import tomllib
from dataclasses import asdict, replace
from functools import cache, partial

import pytest
import torch
from checkpoints import MEAN, STD
from file_layouts import NAMED, WRITERS, of_openai, under
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from timm.models.swin_transformer import checkpoint_filter_fn
from timm.models.vision_transformer import VisionTransformer

from robust_zoo.architectures.build import build
from robust_zoo.errors import Refused, VerificationFailed, ZooError
from robust_zoo.registry import load
from robust_zoo.registry.formats import Architecture, KeyTable
from robust_zoo.registry.load import load_registry, parse
from robust_zoo.weights import formats, layouts, state_dict
from robust_zoo.weights.convert import convert
from robust_zoo.weights.key_rules import to_timm

FORMATS = load_registry().formats
KEYS = load_registry().keys
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
TOLD = [name for name, format in FORMATS.items() if format.normalizer == "told"]
WITH_NORMALISER = [name for name, format in FORMATS.items() if format.mean]


def tiny(builder, keys="same", **arguments):
    return Architecture("tiny", builder, "", keys, 0, "tiny", arguments)


SWIN = tiny(
    "swin_tiny_patch4_window7_224", "swin", img_size=64, embed_dim=8, depths=[2, 1, 1, 1], num_heads=[1] * 4,
    window_size=4,
)  # fmt: skip
VIT = tiny("vit_tiny_patch16_224", img_size=64, embed_dim=16, depth=2, num_heads=2)
GELU = tiny("resnet10_x0_25_s2", act_layer="gelu")
CONVNEXT = tiny("convnext_atto", depths=[1] * 4, dims=[8, 16, 24, 32])
CLIP = tiny("vit_base_patch32_clip_quickgelu_224", "openai_clip", img_size=64, embed_dim=16, depth=2, num_heads=2)
XCIT = tiny("xcit_nano_12_p16_224", img_size=64, embed_dim=16, depth=1, num_heads=2, cls_attn_layers=1)
NETWORKS = {
    "bare": SWIN, "robustness": GELU, "state_dict": SWIN, "timm_ema": GELU, "timm_bits": XCIT, "mae": VIT,
    "robarch": GELU, "revisiting_at": CONVNEXT, "easyrobust": VIT, "robustvlm": CLIP,
}  # fmt: skip


@cache
def network(architecture, seed=0):
    torch.manual_seed(seed)
    model = build(architecture.timm, num_classes=5, **architecture.arguments).eval()
    for key, tensor in model.state_dict().items():  # scales and shifts start as ones and zeros
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if key.endswith(("weight", "var")) else tensor.normal_(0, 0.1)
    if architecture.keys == "openai_clip":
        torch.nn.init.zeros_(model.head.bias)  # which its source does not have
    return model


def tensors(architecture, seed=0):
    model = network(architecture, seed)
    return NAMED[architecture.keys](model)


def content(name, **changes):
    architecture = NETWORKS[name]
    return WRITERS[name](tensors(architecture), tensors(architecture, 1), MEAN, STD)


def converted(content, folder, architecture, format, mean=MEAN, std=STD):
    """Through a file and the contained process: the tensors."""
    torch.save(content, folder / "a.pth")
    out = folder / "out.safetensors"
    convert(folder / "a.pth", out, architecture, {}, format=format, mean=mean, std=std, num_classes=5, model="x")
    return load_file(out)


def test_every_format_has_a_writer_here():
    assert WRITERS.keys() == NETWORKS.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_each_format_gives_its_network(tmp_path, name):
    architecture = NETWORKS[name]
    state = converted(content(name), tmp_path, architecture, FORMATS[name])
    ours = build(architecture.timm, num_classes=5, **architecture.arguments).eval()
    ours.load_state_dict(state)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(architecture)(images)
        assert torch.equal(ours(images), expected) and expected.std() > 0.01


@pytest.mark.parametrize("name", ["revisiting_at", "robarch"])
def test_what_was_converted_converts_to_itself(tmp_path, name):
    """As a bundle hands it on: the tensors alone, without the normaliser that their source would be told by."""
    torch.save(content(name), tmp_path / "0")
    for source, target in (("0", "1"), ("1", "2")):
        convert(
            tmp_path / source, tmp_path / target, NETWORKS[name], {"source_sha256": "0" * 64}, format=FORMATS[name],
            mean=MEAN, std=STD, num_classes=5, model="x",
        )  # fmt: skip
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@cache
def reference(architecture, num_classes):
    with torch.device("meta"):
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return build(architecture.timm, **{**architecture.arguments, **classes}).state_dict()


def read(content, name, architecture=None, num_classes=5, **changes):
    """As the contained process does it: the tensors by timm's keys, checked."""
    architecture, format = architecture or NETWORKS[name], replace(FORMATS[name], **changes)
    references = partial(reference, architecture)
    rule = KEYS.get(architecture.keys, architecture.keys)
    layout = layouts.promised(content, format, references, rule, num_classes)
    state_dict.check_normalizer(layout.found, MEAN, STD, told=format.normalizer == "told")
    state_dict.check(layout.found.state, layout.reference)
    return layout.found.state


def is_of(state, architecture, seed=0):
    expected = network(architecture, seed).state_dict()
    return state.keys() == expected.keys() and all(state_dict.same(state[k], v) for k, v in expected.items())


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "robustvlm"])  # its row tells, always
def test_the_number_of_classes_is_read_where_no_one_tells(name):
    assert is_of(read(content(name), name, num_classes=None), NETWORKS[name])


# --- which of two networks ---


@pytest.mark.parametrize(
    ("name", "payload", "seed"),
    [
        ("timm_ema", FORMATS["timm_ema"].payload, 0),
        ("timm_ema", FORMATS["state_dict"].payload, 1),
        ("timm_ema", ("state_dict_ema",), 0),
        ("timm_bits", FORMATS["timm_bits"].payload, 0),
        ("timm_bits", ("model_ema", "model"), 1),
    ],
)
def test_the_row_says_which_of_two_networks_is_meant(name, payload, seed):
    assert is_of(read(content(name), name, payload=payload), NETWORKS[name], seed)


def test_a_training_without_an_average_has_the_trained_network():
    """Of timm's checkpoints, some of the same authors' have none."""
    for without in ({"state_dict_ema": None}, {}):
        file = {k: v for k, v in content("timm_ema").items() if k != "state_dict_ema"} | without
        assert is_of(read(file, "timm_ema"), GELU, 1)
        with pytest.raises(Refused, match="no state dict") as error:
            read(file, "timm_ema", payload=("state_dict_ema",))
        assert "'state_dict_ema'" in error.value.expected


def test_a_path_goes_deeper():
    deep = {"trainer": {"net": {"weights": tensors(GELU)}}, "state_dict": tensors(GELU, 1)}
    assert is_of(read(deep, "bare", GELU, payload=("trainer.net.weights",)), GELU)
    for wrong in ("trainer.net.weights.fc", "trainer.weights", "trainer.net.weights.fc.bias"):
        with pytest.raises(Refused, match="no state dict"):
            read(deep, "bare", GELU, payload=(wrong,))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_has_the_network_elsewhere_is_refused(name):
    file = content(name)
    elsewhere = {f"other_{key}": value for key, value in file.items()} if "" not in FORMATS[name].payload[:1] else {
        "net": file
    }  # fmt: skip
    with pytest.raises(Refused, match="no state dict") as error:
        read(elsewhere | {"epoch": 3}, name)
    assert all(repr(place) in error.value.expected for place in FORMATS[name].payload if place)
    assert "epoch" in error.value.actual


# --- what lies beside the network ---


def payload(file, name):
    """The dict that holds the tensors."""
    return next((file[key] for key in FORMATS[name].payload if key in file), file)


def names(name):
    """The format's own prefix of all tensors, in the file that is written here."""
    return {"bare": "module.model.", "robustness": "module.", "state_dict": "module.", "mae": "base_model.",
            "robarch": "module.", "revisiting_at": "base_model."}.get(name, "")  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("extra", ["adapter.weight", "fc2.bias", "normalize.scale", "1.adapter.bias", "model.x.weight"])
def test_a_tensor_that_is_left_over_is_named(name, extra):
    file = content(name)
    payload(file, name)[names(name) + extra] = torch.ones(3)
    with pytest.raises(
        VerificationFailed, match=r"no known part|not those of this architecture|copy of the network differs"
    ) as error:
        read(file, name)
    assert extra.removeprefix(FORMATS[name].inner).removeprefix("model.") in error.value.actual


@pytest.mark.parametrize("name", WITH_NORMALISER)
def test_another_normaliser_is_refused(name):
    for which in ("mean", "std"):
        file = content(name)
        tensors = payload(file, name)
        for key in (names(name) + own for own in getattr(FORMATS[name], which)):
            if key in tensors:
                tensors[key] = tensors[key] + 2e-6
        with pytest.raises(VerificationFailed, match=f"another {which}"):
            read(file, name)


@pytest.mark.parametrize("name", WITH_NORMALISER)
def test_a_mean_without_a_std_is_refused(name):
    for which in ("mean", "std"):
        file = content(name)
        for own in getattr(FORMATS[name], which):
            payload(file, name).pop(names(name) + own, None)
        with pytest.raises(VerificationFailed, match="makes no sense"):
            read(file, name)


@pytest.mark.parametrize("name", WITH_NORMALISER)
def test_a_file_without_its_normaliser_is_of_a_network_that_has_none_where_it_would_be_told(name):
    format, file = FORMATS[name], content(name)
    for own in (*format.mean, *format.std):
        payload(file, name).pop(names(name) + own, None)
    found = formats.unwrap(file, format)
    state_dict.check_normalizer(found, *RAW, told=True)
    state_dict.check_normalizer(found, MEAN, STD)
    if name in TOLD:
        with pytest.raises(VerificationFailed, match="no normaliser, so its network takes images") as error:
            read(file, name)
        assert "0.485" in error.value.expected
    else:
        assert is_of(read(file, name), NETWORKS[name])


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("statistics", [RAW, (MEAN, RAW[1]), (RAW[0], STD)])
def test_a_row_of_a_network_without_a_normaliser_refuses_a_file_with_one(tmp_path, name, statistics):
    with pytest.raises(VerificationFailed, match=r"another (mean|std)"):
        converted(content(name), tmp_path, NETWORKS[name], FORMATS[name], *statistics)


def test_the_told_normaliser_crosses_the_process_boundary(tmp_path):
    bare = under("base_model.", tensors(CONVNEXT))
    with pytest.raises(VerificationFailed, match="no normaliser"):
        converted(bare, tmp_path, CONVNEXT, FORMATS["revisiting_at"])
    assert is_of(converted(bare, tmp_path, CONVNEXT, FORMATS["revisiting_at"], *RAW), CONVNEXT)


def test_the_same_network_with_and_without_its_wrappers():
    own = tensors(VIT)
    for name, prefixes in (
        ("bare", ("", "module.", "model.", "module.model.", "base_model.", "module.base_model.")),
        ("mae", ("", "module.", "module.base_model.", "base_model.module.")),
        ("easyrobust", ("", "module.", "1.", "module.1.")),
        ("state_dict", ("", "module.", "model.module.")),
    ):
        for prefix in prefixes:
            for file in (under(prefix, own), {"state_dict": under(prefix, own)}):
                if "state_dict" not in file or "state_dict" in FORMATS[name].payload:
                    assert is_of(read(file, name, VIT), VIT)
    with pytest.raises(VerificationFailed, match="not those"):
        read(under("backbone.", own), "bare", VIT)
    one_without = {k if k == "cls_token" else f"module.{k}": v for k, v in own.items()}
    with pytest.raises(VerificationFailed, match="not those"):
        read(one_without, "bare", VIT)


@pytest.mark.parametrize("kept", [True, False])
def test_a_copy_that_differs_or_is_not_whole_is_refused(kept):
    file = content("robustness")
    key = "module.attacker.model.fc.bias"
    last = file["model"].pop(key)
    if kept:
        file["model"][key] = torch.nextafter(last, last + 1)
    with pytest.raises(VerificationFailed, match="copy of the network differs") as error:
        read(file, "robustness")
    assert "fc.bias" in error.value.actual


# --- any change to a file of any format ---


def _mutate(draw, tensors):
    """Changes one name or one tensor of a dict; what the network's tensors are, only a hash can tell."""
    key = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(key)
    others = sorted(tensors)
    match draw(st.sampled_from(["gone", "renamed", "wrapped", "cut", "moved", "shape", "type", "twice", "nan", "not"])):
        case "renamed":
            tensors[key + "_"] = tensor
        case "wrapped":
            tensors[draw(st.sampled_from(["module.", "model.", "1.", "base_model.", "attacker.model."])) + key] = tensor
        case "cut":
            tensors[key.partition(".")[2] or "x"] = tensor
        case "moved":
            tensors[draw(st.sampled_from(others))] = tensor
        case "shape":
            tensors[key] = tensor.flatten()[:1].expand(7).clone()
        case "type":
            tensors[key] = tensor.double() if tensor.is_floating_point() else tensor.float()
        case "twice":
            tensors[key] = tensors["again." + key] = tensor
        case "nan":
            tensors[key] = torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor + 1.5
        case "not":
            tensors[key] = draw(st.sampled_from([None, 1, "text", [tensor], {"a": tensor}]))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_gives_the_network_or_an_error(name, data):
    """One that says what it expected; never another network, never a normaliser other than the row's."""
    file = content(name)
    _mutate(data.draw, payload(file, name))
    try:
        state = read(file, name)
    except ZooError as error:
        assert isinstance(error, Refused | VerificationFailed) and error.expected and error.actual
    else:
        assert is_of(state, NETWORKS[name])


# --- keys ---


def test_old_swins_are_read_as_timm_reads_them():
    old, model = tensors(SWIN), network(SWIN)
    theirs = checkpoint_filter_fn(copy.copy(old), model)
    ours = to_timm(old, KEYS["swin"], model.state_dict())
    assert ours.keys() == theirs.keys() == model.state_dict().keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    # whose buffers no file of today has
    assert {"attn_mask", "relative_position_index"} == {k.rpartition(".")[2] for k in old.keys() - theirs.keys()} - {
        k.rpartition(".")[2] for k in theirs
    }
    assert to_timm(ours, KEYS["swin"], model.state_dict()) is ours


def test_the_real_swin_has_the_facts_tensors():
    """364 in a file of timm 0.6.7, 329 of timm's today, 35 buffers."""
    with torch.device("meta"):
        model = build("swin_base_patch4_window7_224")
    old = NAMED["swin"](model)
    assert (len(old), len(to_timm(old, KEYS["swin"], model.state_dict()))) == (364, 329)
    assert state_dict.classes(old) == 1000


@pytest.mark.parametrize("change", ["head.fc.weight", "layers.3.downsample.norm.bias"])
def test_two_keys_that_become_one_are_both_named(change):
    old = tensors(SWIN)
    key = {"head.fc.weight": "head.weight"}.get(change, "layers.2.downsample.norm.bias")
    old[change] = old[key].clone()
    with pytest.raises(VerificationFailed, match="two tensors of the file become one") as error:
        read(old, "bare")
    assert f"{key} and {change} both become {change}" in error.value.actual


def test_rules_are_applied_in_order_each_once():
    table = KeyTable("x", (r"\.gone$",), ((r"^a\.", "b."), (r"^b\.", "c."), (r"x", "y")))
    assert [table.to_timm(key) for key in ("a.x.x", "b.w", "a.gone", "c.a.w")] == ["c.y.x", "c.w", None, "c.a.w"]


RARESNET = {
    "stem.stem.stem.0.weight": "conv1.weight",
    "stem.stem.stem.1.running_var": "bn1.running_var",
    "stages.stage1.stage1-block0.F.a.0.weight": "stages.0.0.conv1.weight",
    "stages.stage1.stage1-block0.F.b.0.weight": "stages.0.0.conv2.weight",
    "stages.stage2.stage2-block7.F.b.1.num_batches_tracked": "stages.1.7.bn2.num_batches_tracked",
    "stages.stage3.stage3-block12.F.se.fc1.bias": "stages.2.12.se.fc1.bias",
    "stages.stage3.stage3-block12.F.c.0.weight": "stages.2.12.conv3.weight",
    "stages.stage4.stage4-block0.F.c.1.weight": "stages.3.0.bn3.weight",
    "stages.stage4.stage4-block0.proj.0.weight": "stages.3.0.downsample.0.weight",
    "stages.stage4.stage4-block0.proj.1.bias": "stages.3.0.downsample.1.bias",
    "fc.weight": "fc.weight",
}
CONVSTEM = {
    "stem.stem.0.weight": "stem.0.weight",
    "stem.stem.6.bias": "stem.6.bias",
    "patch_embed.proj.stem.12.weight": "patch_embed.proj.12.weight",
    "stages.0.blocks.0.conv_dw.weight": "stages.0.blocks.0.conv_dw.weight",
    "blocks.0.attn.proj.weight": "blocks.0.attn.proj.weight",
}


OPENAI = {
    "conv1.weight": "patch_embed.proj.weight",
    "ln_pre.bias": "norm_pre.bias",
    "transformer.resblocks.11.ln_1.weight": "blocks.11.norm1.weight",
    "transformer.resblocks.0.attn.in_proj_weight": "blocks.0.attn.qkv.weight",
    "transformer.resblocks.0.attn.in_proj_bias": "blocks.0.attn.qkv.bias",
    "transformer.resblocks.0.attn.out_proj.bias": "blocks.0.attn.proj.bias",
    "transformer.resblocks.0.ln_2.weight": "blocks.0.norm2.weight",
    "transformer.resblocks.0.mlp.c_fc.weight": "blocks.0.mlp.fc1.weight",
    "transformer.resblocks.0.mlp.c_proj.weight": "blocks.0.mlp.fc2.weight",
    "ln_post.weight": "norm.weight",
    "proj": "head.weight",
}


@pytest.mark.parametrize(("name", "pairs"), [("raresnet", RARESNET), ("convstem", CONVSTEM), ("openai_clip", OPENAI)])
def test_keys_of_the_facts(name, pairs):
    state = {old: torch.tensor(float(i)) for i, old in enumerate(pairs)}
    mapped = to_timm(state, KEYS[name], {})
    assert list(mapped) == list(pairs.values()) and list(mapped.values()) == list(state.values())


def test_tensors_of_another_shape():
    """CLIP's: a class token and positions without a batch, a last matrix (width, embedding) without a bias."""
    reference = {
        "cls_token": torch.empty(1, 1, 4),
        "pos_embed": torch.empty(1, 3, 4),
        "head.weight": torch.empty(2, 4),
        "head.bias": torch.empty(2),
    }
    theirs = {"class_embedding": torch.rand(4), "positional_embedding": torch.rand(3, 4), "proj": torch.rand(4, 2)}
    mapped = to_timm(theirs, KEYS["openai_clip"], reference)
    assert {key: tensor.shape for key, tensor in mapped.items()} == {key: t.shape for key, t in reference.items()}
    assert torch.equal(mapped["cls_token"][0, 0], theirs["class_embedding"])
    assert torch.equal(mapped["pos_embed"][0], theirs["positional_embedding"])
    assert all(mapped["head.weight"][i, j] == theirs["proj"][j, i] for i in range(2) for j in range(4))
    assert mapped["head.bias"].count_nonzero() == 0
    wrong = to_timm(theirs | {"class_embedding": torch.rand(5)}, KEYS["openai_clip"], reference)
    assert wrong["cls_token"].shape == (5,)  # as it was, for the check to name it
    assert "head.bias" not in to_timm({"ln_post.bias": torch.rand(4)}, KEYS["openai_clip"], {"norm.bias": 0})


def test_a_private_encoder_is_read_with_its_embedding():
    def references(num_classes):
        torch.manual_seed(0)
        kwargs = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "pre_norm": True}
        model = VisionTransformer(**kwargs, num_classes=12 if num_classes is None else num_classes)
        return model.state_dict()

    expected = references(None) | {"head.bias": torch.zeros(12)}
    tower = of_openai(expected)
    found = layouts.find({"state_dict": under("visual.", tower), "epoch": 1}, references, KEYS["openai_clip"])
    assert found.num_classes == 12 and found.found.state.keys() == expected.keys()
    assert all(torch.equal(found.found.state[key], tensor) for key, tensor in expected.items())


@pytest.mark.parametrize("file", ["old", "new", "old, no head", "new, no head", "old, wrapped"])
def test_a_private_swin_of_any_timm_is_read(file):
    """An own file goes by the architecture's table too."""

    references = partial(reference, SWIN)
    content = tensors(SWIN) if "old" in file else dict(network(SWIN).state_dict())
    content = {k: v for k, v in content.items() if "no head" not in file or not k.startswith("head.")}
    wrap = (lambda state: {"model": under("module.", state), "args": None}) if "wrapped" in file else dict
    found = layouts.find(wrap(content), references, KEYS["swin"]).found.state
    expected = {k: v for k, v in network(SWIN).state_dict().items() if "no head" not in file or "head." not in k}
    assert found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())
    with pytest.raises(VerificationFailed) as error:
        layouts.find(wrap(content | {"adapter.weight": torch.ones(3)}), references, KEYS["swin"])
    assert error.value.next and error.value.actual


# --- rows ---


@pytest.mark.parametrize(
    "change",
    [
        {"payload": []}, {"strip": [""]}, {"mean": ["a"]}, {"std": ["a"]}, {"mean": [""], "std": ["b"]},
        {"normalizer": "guessed"},
    ],
)  # fmt: skip
def test_a_format_that_makes_no_sense_is_no_row(change):
    data = tomllib.loads(load.TOML.read_text(encoding="utf-8"))
    data["format"]["bare"] |= change
    with pytest.raises(Refused, match="registry cannot be read") as error:
        parse(data)
    assert "format.bare" in error.value.actual


def test_formats_and_tables_survive_json(tmp_path):
    """They are handed to the contained process; a row of no registry too."""
    format = replace(FORMATS["robarch"], name="of a test", payload=("a.b",), mean=("m",), std=("s",))
    file = {"a": {"b": tensors(GELU) | {"m": torch.tensor(MEAN), "s": torch.tensor(STD)}}}
    assert is_of(converted(file, tmp_path, GELU, format), GELU)
    assert asdict(format)["payload"] == ("a.b",)
