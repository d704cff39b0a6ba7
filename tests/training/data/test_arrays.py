"""An .npz that is no dataset is refused before anything is trained or measured; the error's next line makes it one."""

import re

import numpy as np
import pytest
import torch
from runs import NAME, RECIPE
from torch.utils.data import TensorDataset
from verbs import run_to as run

from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.data.dataset import Images, load_npz
from robust_zoo.training.evaluation.datasets import open_dataset
from robust_zoo.training.transfer.datasets import open_target
from robust_zoo.training.transfer.recommend import recommend
from robust_zoo.training.transfer.task import Target

N = 40
X = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), np.uint8)
Y = np.arange(N) % 10


def at(index, value, array):
    changed = array.copy()
    changed[index] = value
    return changed


def saved(path, x, y):
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


# What is done to sound arrays, what is said of it, and whether the next line undoes it.
IMAGES = {
    "NCHW": (X.transpose(0, 3, 1, 2), "(40, 3, 32, 32)", True),
    "HWCN, as SVHN": (X.transpose(1, 2, 3, 0), "(32, 32, 3, 40)", True),
    "CHWN": (X.transpose(3, 1, 2, 0), "(3, 32, 32, 40)", True),
    "flat": (X.transpose(0, 3, 1, 2).reshape(N, -1), "(40, 3072)", True),
    "RGBA": (np.concatenate((X, X[..., :1]), -1), "(40, 32, 32, 4)", True),
    "floats in [0, 1]": ((X / 255).astype(np.float32), "float32 (40, 32, 32, 3), from 0 to 1", True),
    "floats to 255": (X.astype(np.float64), "float64 (40, 32, 32, 3), from 0 to 255", True),
    "int64": (X.astype(np.int64), "int64 (40, 32, 32, 3), from 0 to 255", True),
    "16 bits": (X.astype(np.uint16) * 257, "image 0 has the value", True),
    "normalised": ((X / 255 - 0.5) / 0.25, "image 0 has the negative value", False),
    "one pixel below": (at((7, 0, 0, 0), -1e-3, X / 255), "image 7 has the negative value -0.001", False),
    "NaN": (at((9, 1, 2, 0), np.nan, X / 255), "image 9 has the value nan", False),
    "Inf": (at((3, 1, 2, 0), np.inf, X / 255), "image 3 has the value inf", False),
    "constant": (at(5, 7, X), "image 5 is 7 everywhere, as 1 of 40", False),
    "grey": (X[..., 0], "uint8 (40, 32, 32)", False),
    "grey channel": (X[..., :1], "uint8 (40, 32, 32, 1)", False),
    "two channels": (X[..., :2], "uint8 (40, 32, 32, 2)", False),
    "one image": (X[0], "uint8 (32, 32, 3)", False),
    "names": (X.astype("U3"), "<U3 (40, 32, 32, 3)", False),
    "complex": (X.astype(np.complex64), "complex64", False),
    "none": (X[:0], "no image", False),
    "a number": (np.uint8(3), "uint8 ()", False),
}  # fmt: skip
LABELS = {
    "floats": (Y.astype(float), "label 0 is 0.0", True),
    "halves": (at(4, 0.5, Y.astype(float)), "label 4 is 0.5", False),
    "NaN": (at(11, np.nan, Y.astype(float)), "label 11 is nan", False),
    "negative": (at(6, -1, Y), "label 6 is -1, as 1 are", False),
    "unsigned overflow": (at(2, 2**64 - 1, Y.astype(np.uint64)), "label 2 is 18446744073709551615", False),
    "huge": (at(8, 2**40, Y), "label 8 is 1099511627776", False),
    "bool": (Y % 2 == 0, "bool, the first True", True),
    "names": (np.array(["cat", "dog"] * (N // 2)), "names, the first 'cat'", True),
    "bytes": (np.array([b"cat", b"dog"] * (N // 2)), "names, the first 'cat'", True),
    "one-hot": (np.eye(10, dtype=np.uint8)[Y], "a row for each image", True),
    "too few": (Y[:-1], "labels (39,) for 40 images", False),
    "too many": (np.append(Y, 0), "labels (41,) for 40 images", False),
    "one number": (np.int64(3), "labels () for 40 images", False),
    "complex": (Y + 0j, "complex128", False),
}  # fmt: skip
CASES = [(f"x: {name}", "x_train", *case) for name, case in IMAGES.items()]
CASES += [(f"y: {name}", "y_train", *case) for name, case in LABELS.items()]


@pytest.mark.parametrize(("key", "array", "said", "mended"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_arrays_that_are_no_dataset_are_refused_and_mended(tmp_path, key, array, said, mended):
    x, y = (array, Y) if key == "x_train" else (X, array)
    if key == "x_train" and said == "no image":
        y = Y[:0]
    saved(tmp_path / "d.npz", x, y)
    with pytest.raises(UsageError, match="cannot read") as error:
        load_npz(tmp_path / "d.npz", "train")
    assert said in error.value.actual and key in error.value.expected and error.value.next
    code = re.fullmatch(rf"{key} = (.*)   before it is saved", error.value.next)
    if mended:
        saved(tmp_path / "d.npz", *((eval(code[1], {"np": np, key: array}), Y) if key == "x_train"
                                    else (X, eval(code[1], {"np": np, key: array}))))  # fmt: skip
        found = load_npz(tmp_path / "d.npz", "train")
        if key == "x_train":
            assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), X)
        else:
            assert len(found.labels) == N and int(found.labels.min()) == 0


def test_labels_of_keras_and_of_small_types_are_taken(tmp_path):
    for labels in (Y[:, None], Y.astype(np.uint8), Y.astype(np.int32)):
        assert load_npz(saved(tmp_path / "d.npz", X, labels), "test").labels.tolist() == Y.tolist()


FITS = {
    "too many classes": ((X, at(3, 10, Y)), "has 10 classes", "10 of image 3"),
    "from one": ((X, Y + 1), "has 10 classes", "labels up to 10"),
    "another size": ((np.repeat(np.repeat(X, 2, 1), 2, 2), Y), "takes images of 32 x 32", "images (N, 64, 64, 3)"),
    "not square": ((X[:, :24], Y), "takes images of 32 x 32", "images (N, 24, 32, 3)"),
}  # fmt: skip


@pytest.mark.parametrize("case", FITS)
def test_what_the_network_does_not_take_is_refused_by_train_and_evaluate(tmp_path, case):
    arrays, message, actual = FITS[case]
    data = saved(tmp_path / "d.npz", *arrays)
    (tmp_path / "r.toml").write_text(RECIPE)
    train = ("train", NAME, "--data", data, "--out", tmp_path / "run", "--recipe", tmp_path / "r.toml")
    evaluate = ("evaluate", NAME, "-d", "cifar10", "--data", data, "-a", "none", "--out", tmp_path / "ledger")
    for arguments in (train, evaluate):
        said = run(*arguments, code=2).stderr
        assert message in said and actual in said and "next:" in said
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("checkpoint*"))
    if case == "from one":
        assert "take 1 from each label" in said


def test_what_transfer_is_given_is_refused_likewise(tmp_path):
    (tmp_path / "cifar10").mkdir()
    saved(tmp_path / "cifar10" / "cifar10.npz", at((9, 0, 0, 0), np.nan, X / 255), Y)
    with pytest.raises(UsageError, match="cannot read") as error:
        open_target("cifar10", tmp_path)
    assert "image 9 has the value nan" in error.value.actual


GOOD = Images(torch.from_numpy(X).permute(0, 3, 1, 2), torch.from_numpy(Y))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Images(GOOD.images.float() / 255, GOOD.labels),
        lambda: Images(GOOD.images, GOOD.labels.float()),
        lambda: Images(GOOD.images, GOOD.labels[:-1]),
        lambda: Images(GOOD.images.permute(0, 2, 3, 1), GOOD.labels),
        lambda: Images(GOOD.images[0], GOOD.labels),
        lambda: Images(X, Y),
        lambda: Images(GOOD.images, GOOD.labels - 1),
    ],
    ids=["floats", "float labels", "too few", "NHWC", "one", "arrays", "negative"],
)
def test_tensors_that_are_no_dataset_are_refused(make):
    with pytest.raises(UsageError) as error:
        make()
    assert error.value.expected and error.value.actual and error.value.next


def test_datasets_of_torch_are_refused_before_anything_is_measured(tmp_path):
    theirs = TensorDataset(GOOD.images.float() / 255, GOOD.labels)
    for use in (
        lambda data: recommend(data, [NAME], cache=tmp_path),
        lambda data: pgd_accuracy(torch.nn.Identity(), data, ThreatModel("l2", 0.5)),
        lambda data: Target("mine", tuple("0123456789"), data, None, GOOD),
    ):
        for data, said in ((theirs, "is no dataset of robust_zoo"), (GOOD.subset(torch.arange(0)), "without images")):
            with pytest.raises(UsageError, match=said) as error:
                use(data)
            assert error.value.next
    with pytest.raises(UsageError, match="mine has 9 classes") as error:
        Target("mine", tuple("012345678"), GOOD, None, GOOD)
    assert error.value.actual == "label 9 of image 9"


def test_a_sound_npz_is_what_it_was(tmp_path):
    data = saved(tmp_path / "d.npz", X, Y)
    title, images = open_dataset("cifar10", str(data), get(NAME))
    assert title == f"cifar10 test, {len(GOOD)} images" and images.sha256 == GOOD.sha256  # which the test set is not
