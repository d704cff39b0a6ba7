"""One recipe, seed, data and versions: one exported file, whatever else happened on the machine."""

import re
import time

import torch
from runs import NAME, RECIPE, write_data

from robust_zoo.files import sha256_of
from robust_zoo.training.run import Machine, train
from robust_zoo.weights.safetensors_file import read_header


def test_two_trainings_give_the_same_file(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 1"))
    data, machine = write_data(tmp_path / "data.npz"), Machine(device="cpu", precision="fp32", progress=False)
    files = []
    for out in ("one", "two"):
        torch.manual_seed(time.time_ns() % 1000)  # what was drawn before is of no account
        files.append(train(NAME, data, tmp_path / out, overrides=tmp_path / "recipe.toml", machine=machine))
        time.sleep(0.1)
    assert sha256_of(files[0]) == sha256_of(files[1])
    header, rows = read_header(files[0]), [(file.parent / "row.toml").read_text() for file in files]
    assert "hours" not in header["training"] and "40 cifar10 training images" in header["training"]
    assert all(re.search(r"training = .*, \d+\.\d\d hours", row) for row in rows)
    assert all("hours" in (file.parent / "card.md").read_text() for file in files)
