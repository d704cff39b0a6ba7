"""A user's own checkpoint, in any usual layout: the one network in it, or the true reason why not."""

import argparse
import collections
import datetime
import enum
import functools
import io
import itertools
import pathlib
import types
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from hostile import saved
from torch import nn

import robust_zoo
from robust_zoo.architectures.build import build
from robust_zoo.errors import NewHeadWarning, Refused, UsageError, VerificationFailed
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.weights import convert_worker, layouts, payload, stand_ins
from robust_zoo.weights.own import OwnFileWarning

TINY = "resnet18_x0_25"
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.125)  # exact in any precision; no row's


@cache
def network(seed=0, num_classes=10):
    torch.manual_seed(seed)
    return build(TINY, num_classes=num_classes)


@cache
def _weights(seed):
    return network(seed).state_dict()


def weights(seed=0):
    return dict(_weights(seed))


def pre(prefix, state):
    return {prefix + k: v for k, v in state.items()}


def references(num_classes):
    with torch.device("meta"):
        return build(TINY, **({} if num_classes is None else {"num_classes": num_classes})).state_dict()


references = cache(references)


def find(content, ema=None):
    return layouts.find(content, references, "same", ema)


def through_a_file(content, tmp_path, ema=None):
    """As `find`, of what was saved and read without running code."""
    torch.save(content, tmp_path / "a.pth")
    return find(convert_worker.load_content(tmp_path / "a.pth"), ema)


def is_of(layout, seed=0):
    expected = network(seed).state_dict()
    assert layout.found.state.keys() == expected.keys() and layout.num_classes == 10
    return all(torch.equal(layout.found.state[k], v) for k, v in expected.items())


def cast(kind):
    return {k: v.to(kind) if v.is_floating_point() else v for k, v in weights().items()}


def statistics(mean="mean", std="std"):
    return {mean: torch.tensor(MEAN).view(1, 3, 1, 1), std: torch.tensor(STD)}


# --- one network, wherever it lies -------------------------------------------------------------------------------

PREFIXES = ["", "module.", "_orig_mod.", "model.", "net.", "backbone.", "ema.", "1.", "encoder_q."]
CONTAINERS = [
    (), ("state_dict",), ("model",), ("net",), ("model_state_dict",), ("params",), ("weights",), ("ema",),
    ("ema", "state_dict"), ("network", "model", "state_dict"),
]  # fmt: skip
NORMALISERS = [
    {},
    statistics("normalize.mean", "normalize.std"),
    statistics(),
    statistics("0.mean", "0.std"),
    statistics("normalizer.new_mean", "normalizer.new_std"),
    statistics("preprocess.norm.mu", "preprocess.norm.sigma"),
]


def nested(content, keys):
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "lr": 0.1}
    return content


@pytest.mark.parametrize("keys", CONTAINERS, ids=".".join)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_container_and_normaliser(prefix, keys):
    normaliser = NORMALISERS[(PREFIXES.index(prefix) + CONTAINERS.index(keys)) % len(NORMALISERS)]
    layout = find(nested(normaliser | pre(prefix, weights()), keys))
    assert is_of(layout) and layout.notes == ()
    assert (layout.found.mean, layout.found.std) == (pytest.approx(MEAN), pytest.approx(STD)) if normaliser else True


@pytest.mark.parametrize("first, second, third", [*itertools.product(PREFIXES[1:5], repeat=3)])
def test_stacks_of_prefixes_with_the_normaliser_at_any_height(first, second, third):
    inner = pre(third, weights())
    for content in (
        pre(first + second, inner),
        pre(first, statistics("normalize.mean", "normalize.std") | pre(second, inner)),
        pre(first + second, statistics() | inner),
    ):
        layout = find({"state_dict": content})
        assert is_of(layout) and (layout.found.mean is None or layout.found.mean == pytest.approx(MEAN))


def test_layers_in_dicts_of_their_own():
    tree = {}
    for key, tensor in weights().items():
        *way, leaf = key.split(".")
        functools.reduce(lambda d, k: d.setdefault(k, {}), way, tree)[leaf] = tensor
    assert is_of(find({"params": tree}))


@pytest.mark.parametrize("name", ["mobilenet", "vgg16_bn"])
def test_torchvisions_names_of_layers_under_prefixes(name):
    import checkpoints

    arch = get_architecture(name)
    rule = checkpoints.rule_of(arch)

    def of(num_classes):
        with torch.device("meta"):
            return build(arch.timm, **({} if num_classes is None else {"num_classes": num_classes})).state_dict()

    with torch.device("meta"):
        state = checkpoints.TORCHVISION[name]().state_dict()
    for content in (state, {"model": pre("module._orig_mod.", state) | {"module.criterion.weight": torch.ones(3)}}):
        found = layouts.candidates(payload.read(content), of, rule)
        assert [one.state.keys() for one in found] == [of(1000).keys()]
    without = {k: v for k, v in state.items() if not k.startswith(("classifier.1.", "classifier.6."))}
    assert [layouts.classes_of(one.state) for one in layouts.candidates(payload.read(without), of, rule)] == [0]


# --- statistics --------------------------------------------------------------------------------------------------


def test_statistics_of_0_to_255_or_of_one_number():
    large = {"pixel_mean": torch.tensor([127.5, 51.0, 25.5]), "pixel_std": torch.tensor([51.0, 51.0, 25.5])}
    layout = find(large | pre("backbone.", weights()))
    assert layout.found.mean == pytest.approx((0.5, 0.2, 0.1)) and layout.found.std == pytest.approx((0.2, 0.2, 0.1))
    assert "255" in layout.notes[0]
    one = find({"mean": torch.tensor([0.5]), "std": torch.tensor(0.25)} | weights()).found
    assert (one.mean, one.std) == ((0.5,) * 3, (0.25,) * 3)


def test_the_nearest_statistics_are_the_networks():
    other = {"normalize.mean": torch.zeros(3), "normalize.std": torch.ones(3)}
    content = {
        "model": statistics("normalize.mean", "normalize.std") | pre("net.", weights()),
        "model_ema": other | pre("net.", weights(1)),
    }
    assert find(content, ema=False).found.mean == pytest.approx(MEAN)
    assert find(content, ema=True).found.mean == (0, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": torch.tensor(MEAN)},
        {"mean": torch.tensor(MEAN), "std": torch.zeros(3)},
        {"mean": torch.tensor(MEAN), "std": torch.full((3,), float("nan"))},
        {"mean": torch.rand(3, 8, 8), "std": torch.rand(3, 8, 8)},
        {"mean": torch.rand(4), "std": torch.rand(4) + 1},
        {"mean": torch.zeros(1).expand(3), "std": torch.ones(1).expand(3)},
        statistics("a.mean", "a.std") | {"b.mean": torch.zeros(3), "b.std": torch.ones(3)},
    ],
)
def test_statistics_that_are_none(wrong):
    with pytest.raises(VerificationFailed, match="normalis") as error:
        find(wrong | pre("model.", weights()))
    assert error.value.expected and error.value.actual


# --- two sets of weights -----------------------------------------------------------------------------------------

BOTH = {
    "timm": {"state_dict": 0, "state_dict_ema": 1},
    "deit": {"model": 0, "model_ema": 1},
    "mmengine": {"state_dict": 0, "ema_state_dict": 1},
    "hat": {"unaveraged_model_state_dict": 0, "model_state_dict": 1},
    "swa": {"model": 0, "swa_model": 1},
    "lightning callback": {"current_model_state": 0, "state_dict": 1},
    "torchvision": {"model": 0, "model_ema": {"n_averaged": torch.tensor(5), "module.": 1}},
    "a counter alone": {"net": 0, "copy": {"n_averaged": torch.tensor(5), "module.": 1}},
    "lightning module": {"state_dict": {"model.": 0, "ema_model.module.": 1, "ema_model.decay": torch.tensor(0.9)}},
    "ema_pytorch": {"online_model.": 0, "ema_model.": 1, "initted": torch.tensor(True), "step": torch.tensor(7)},
}


def filled(shape):
    """Weights of a seed in place of each number; under a prefix when the key ends in a dot."""
    out = {}
    for key, value in shape.items():
        if isinstance(value, dict):
            out[key] = filled(value)
        elif isinstance(value, int):
            out |= pre(key, weights(value)) if key.endswith(".") else {key: weights(value)}
        else:
            out[key] = value
    return out


@pytest.mark.parametrize("layout", BOTH)
def test_ema_or_raw_is_chosen_or_said(layout):
    content = filled(BOTH[layout])
    default, ema, raw = (find(content, choice) for choice in (None, True, False))
    assert is_of(default, 1) and is_of(ema, 1) and is_of(raw, 0)
    assert len(default.notes) == 1 and "averaged" in default.notes[0] and "--raw" in default.notes[0]
    assert (ema.notes, raw.notes) == ((), ()) and (ema.taken, raw.taken) == ("ema", "raw")


def test_an_average_that_has_not_moved_is_no_choice():
    content = {"state_dict": weights(), "state_dict_ema": weights()}
    for choice in (None, True, False):
        assert find(content, choice).notes == ()


@pytest.mark.parametrize(
    ("content", "ema"),
    [
        ({"student": weights(0), "teacher": weights(1)}, None),
        ({"model": weights(0), "ema_1": weights(1), "ema_2": weights(2)}, None),
        ({"model": weights(0), "ema_1": weights(1), "ema_2": weights(2)}, True),
        (pre("module.model.", weights(0)) | pre("module.attacker.model.", weights(1)), None),
    ],
)
def test_two_sets_that_nothing_tells_apart_are_refused(content, ema):
    with pytest.raises(UsageError, match="sets of weights in the file fit, and differ") as error:
        find(content, ema)
    assert "save the set that you mean" in error.value.next


@pytest.mark.parametrize(("content", "ema"), [({"model": weights()}, True), ({"model_ema": weights()}, False)])
def test_a_choice_that_the_file_does_not_have(content, ema):
    with pytest.raises(UsageError, match=r"no (averaged|raw) weights") as error:
        find(content, ema)
    assert "model" in error.value.actual and "checkpoint_ema=" in error.value.next


def test_averages_that_are_not_whole_are_said():
    whole = {"state_dict": pre("model.", weights())}
    for part in (
        {"ema": {"shadow_params": [torch.ones(3), torch.ones(4)], "decay": 0.9}},
        {"state_dict_ema": {"conv1.weight": torch.ones(16, 3, 3, 3)}},
    ):
        layout = find(whole | part)
        assert is_of(layout) and "not a whole network" in layout.notes[0]
        with pytest.raises(UsageError, match="no averaged weights"):
            find(whole | part, ema=True)


# --- precision, counters, heads, what lies beside ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_and_it_is_said(kind):
    layout = find(pre("module.", cast(kind)))
    expected = cast(kind)
    assert all(torch.equal(v, expected[k].to(v.dtype)) for k, v in layout.found.state.items())
    assert {v.dtype for v in layout.found.state.values()} == {torch.float32, torch.int64}
    assert str(kind).removeprefix("torch.") in layout.notes[0] and "float32" in layout.notes[0]


def test_a_cast_of_counters_too():
    content = {k: v.half() for k, v in weights().items()}
    content["bn1.num_batches_tracked"] = torch.tensor([float("inf")]).half()
    state = find(content).found.state
    assert state["bn1.num_batches_tracked"].dtype is torch.int64 and state["bn1.num_batches_tracked"] == 0


def test_before_torch_0_4_1():
    layout = find({"model": {k: v for k, v in weights().items() if "num_batches" not in k}})
    assert is_of(layout)


@pytest.mark.parametrize("number", [torch.uint8, torch.complex64])
def test_other_numbers_than_floats_are_refused(number, tmp_path):
    torch.save(weights() | {"fc.weight": weights()["fc.weight"].to(number)}, tmp_path / "a.pth")
    with pytest.raises(VerificationFailed, match="another shape or type") as error:
        convert_worker.work(request(tmp_path))
    assert "fc.weight" in error.value.actual


def request(tmp_path, **changes):
    return {
        "source": str(tmp_path / "a.pth"), "target": str(tmp_path / "out"), "timm": TINY, "keys": "same", "header": {},
        "mean": None, "std": None, "num_classes": None, "arguments": {}, "format": None, "ema": None, "sha256": None,
    } | changes  # fmt: skip


def test_no_head():
    for content in (weights(), pre("module.", weights())):
        layout = find({k: v for k, v in content.items() if "fc." not in k})
        assert layout.num_classes == 0 and layout.found.state.keys() == weights().keys() - {"fc.weight", "fc.bias"}


BESIDE = ["criterion.weight", "loss_fn.pos_weight", "train_loss.0.weight", "val_metrics.f1.tp", "model.loss.weight"]


@pytest.mark.parametrize("name", BESIDE)
def test_losses_and_metrics_are_left_out_and_it_is_said(name):
    layout = find({"state_dict": pre("model.", weights()) | {name: torch.ones(10)}})
    assert is_of(layout) and name in layout.notes[0] and "left out" in layout.notes[0]


def test_optimizers_and_random_states_in_their_own_dicts_are_not_worth_a_word():
    optimizer = {"state": {i: {"exp_avg": v, "exp_avg_sq": v} for i, v in enumerate(weights().values())}}
    states = {"torch_rng_state": torch.zeros(9, dtype=torch.uint8), "scaler": {"scale": torch.tensor(65536.0)}}
    layout = find({"model": weights(), "optimizer": optimizer, "optimizer_states": [optimizer], **states})
    assert is_of(layout) and layout.notes == ()
    assert is_of(find(weights() | {"optimizer": optimizer, "epoch": 3} | states))


@pytest.mark.parametrize("name", ["adapter.weight", "fc2.weight", "model.neck.0.bias"])
def test_layers_that_the_architecture_does_not_have_are_refused(name):
    for content in (weights(), pre("model.", weights())):
        with pytest.raises(VerificationFailed) as error:
            find({"state_dict": content | {name: torch.ones(10)}})
        assert name.removeprefix("model.") in error.value.actual and error.value.next


def test_another_architecture_is_told_by_its_tensors():
    other = build("resnet18", num_classes=10).state_dict()
    with pytest.raises(VerificationFailed, match="another shape or type") as error:
        find({"state_dict": pre("module.", other)})
    assert "conv1.weight (16, 3, 3, 3)" in error.value.expected and "(64, 3, 7, 7)" in error.value.actual
    assert "architecture" in error.value.next
    with pytest.raises(VerificationFailed, match="not those of this architecture") as error:
        find({"state_dict": pre("module.", {k: v for k, v in weights().items() if k != "layer1.0.conv1.weight"})})
    assert "missing 1: layer1.0.conv1.weight" in error.value.expected


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "NoneType"),
        ({}, "nothing"),
        ({"model": "text", "epoch": 3}, "int, str"),
        ({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, "a.b"),
        (functools.reduce(lambda inner, _: {"a": inner}, range(99), {}), "more"),
    ],
)
def test_no_weights(content, word):
    with pytest.raises(Refused) as error:
        find(content)
    assert word in error.value.actual


def test_dicts_that_hold_themselves_and_each_other_are_read_once():
    loop = {"state_dict": weights()}
    loop["self"] = [loop] * 9
    for _ in range(30):
        loop = {"a": loop, "b": loop}
    assert is_of(find(loop))


def test_tensors_that_are_not_stored_are_refused():
    with pytest.raises(Refused, match="not stored as they stand") as error:
        find(weights() | {"fc.bias": torch.zeros(1).expand(10)})
    assert "fc.bias" in error.value.actual


# --- objects beside the weights ----------------------------------------------------------------------------------


class Mode(enum.Enum):
    FAST = 1


class EasyDict(dict):
    pass


class Config:
    def __init__(self):
        self.inner = {"lr": 0.1, "parts": [EasyDict(a=1)]}


class Canary:
    made = 0

    def __init__(self, *_):
        Canary.made += 1

    def __reduce__(self):
        return Canary, (1,)


OBJECTS = {
    "namespace": argparse.Namespace(lr=0.1, data=pathlib.Path("x"), mode=Mode.FAST),
    "simple namespace": types.SimpleNamespace(lr=0.1),
    "path": pathlib.Path("x"),
    "windows path": pathlib.PureWindowsPath("x"),
    "enum": Mode.FAST,
    "easydict": EasyDict(lr=0.1, sub=EasyDict(a=[1])),
    "config": Config(),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], 5),
    "counter": collections.Counter("abc"),
    "date": datetime.datetime(2020, 1, 1),
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "set": {1, 2},
    "slice": slice(1, 2),
    "numpy scalars": [np.float64(1), np.float32(1), np.int64(3), np.bool_(True), np.str_("x")],
    "numpy array": np.arange(3.0),
    "numpy random state": np.random.RandomState(0).get_state(),
    "generator": np.random.default_rng(0),
    "dtype": np.dtype("f4"),
    "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1),
    "scheduler class": torch.optim.lr_scheduler.StepLR,
    "loss": nn.CrossEntropyLoss(),
    "class": Config,
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beside_the_weights_are_read_as_nothing(tmp_path, name, legacy):
    if (name, legacy) == ("loss", True):
        pytest.skip("the old format keeps a module's source; weights_only refuses that")
    content = {"state_dict": weights(), "args": OBJECTS[name], "deep": [{"x": (OBJECTS[name],)}]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    read = convert_worker.load_content(tmp_path / "a.pth")
    assert is_of(find(read))
    assert not isinstance(read["args"], argparse.Namespace | Config | np.generic | pathlib.Path)


def test_their_code_is_not_run(tmp_path):
    torch.save({"state_dict": weights(), "args": Canary()}, tmp_path / "a.pth")
    before = Canary.made
    assert is_of(find(convert_worker.load_content(tmp_path / "a.pth")))
    assert Canary.made == before


CODE = [
    "os.system", "builtins.eval", "torch.load", "dill._dill._create_function", "subprocess.Popen", "commands.call",
    "numpy.memmap",
    "functools.reduce", "pathlib.Path.touch",
]  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_what_has_no_use_in_a_checkpoint_has_no_stand_in(name):
    assert stand_ins.stand_in_beside_weights(name) is None


def test_a_whole_pickled_model(tmp_path):
    class Normalize(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor(MEAN))
            self.register_buffer("std", torch.tensor(STD))
            self.register_buffer("hidden", torch.ones(3), persistent=False)

    Normalize.__qualname__ = "Normalize"
    globals()["Normalize"] = Normalize
    whole = nn.DataParallel(nn.Sequential(Normalize(), network()))
    for content in (whole, {"model": whole, "epoch": 3}, network()):
        layout = through_a_file(content, tmp_path)
        assert is_of(layout) and layout.notes == ()
    assert through_a_file(whole, tmp_path).found.mean == pytest.approx(MEAN)


def test_torchscript_and_other_archives_are_named(tmp_path):
    script = tmp_path / "a.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated it; files of it remain
        torch.jit.save(torch.jit.trace(network().eval(), torch.rand(1, 3, 32, 32)), script)
    with pytest.raises(Refused, match="TorchScript") as error:
        convert_worker.load_content(script)
    assert "torch.jit.load('{file}')" in error.value.next
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v.numpy() for k, v in weights().items()})
    script.write_bytes(buffer.getvalue())
    with pytest.raises(Refused, match="zip archive of another kind"):
        convert_worker.load_content(script)


# --- create_model ------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(own_machine):
    return own_machine


def loaded(path, **kwargs):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = robust_zoo.create_model(TINY, checkpoint_path=path, **kwargs)
    return model, [str(w.message) for w in said if issubclass(w.category, OwnFileWarning | NewHeadWarning)]


def test_create_model_says_what_was_chosen_each_time(tmp_path, cached):
    path = tmp_path / "mine.pth"
    torch.save({"model": weights(0), "model_ema": weights(1), "args": argparse.Namespace(lr=1)}, path)
    for _ in range(2):  # converted, then from the cache
        model, said = loaded(path)
        assert torch.equal(model.state_dict()["conv1.weight"], weights(1)["conv1.weight"]) and "averaged" in said[0]
    model, said = loaded(path, checkpoint_ema=False)
    assert torch.equal(model.state_dict()["conv1.weight"], weights(0)["conv1.weight"]) and not said


def test_create_model_without_a_head_in_the_file(tmp_path, cached):
    path = tmp_path / "mine.pth"
    torch.save(pre("module.", {k: v for k, v in weights().items() if not k.startswith("fc.")}), path)
    with pytest.raises(VerificationFailed, match="no classification head") as error:
        robust_zoo.create_model(TINY, checkpoint_path=path)
    assert "num_classes=0" in error.value.next
    features, said = loaded(path, num_classes=0)
    assert features(torch.rand(2, 3, 32, 32)).shape == (2, 128) and not said
    model, said = loaded(path, num_classes=7)
    assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7) and "starts at random" in said[0]
    assert torch.equal(model.state_dict()["conv1.weight"], weights()["conv1.weight"])


def test_a_whole_file_of_ones_own_is_never_to_be_fetched_again(tmp_path, cached):
    contents = {
        "nan": weights() | {"fc.bias": torch.full((10,), float("nan"))}, "two": {"a": weights(), "b": weights(1)},
    }  # fmt: skip
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(robust_zoo.ZooError) as error:
            robust_zoo.create_model(TINY, checkpoint_path=tmp_path / f"{name}.pth")
        assert "fetch" not in str(error.value) and all(error.value.fields.values()), str(error.value)
    (tmp_path / "hostile.pth").write_bytes(saved({"model": weights(), "x": np.memmap}))
    with pytest.raises(Refused, match="unsafe") as error:
        robust_zoo.create_model(TINY, checkpoint_path=tmp_path / "hostile.pth")
    assert "numpy.memmap" in error.value.actual and "fetch" not in error.value.next
