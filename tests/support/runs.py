"""Tiny real trainings for the tests: 40 CIFAR-10 images, 10 more to measure on, a small network, a few seconds."""

import hashlib
import json
import time

import numpy as np
from safetensors import safe_open

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
EXPORTED = "resnet10_x0_25_s2_cifar10_custom_l2_eps0_5.safetensors"
RECIPE = 'architecture = "resnet10_x0_25_s2"\nepochs = 3\nbatch_size = 8\nattack_steps = 2\n'


def write_data(path, train=40, test=10):
    """The first `train` and the next `test` of every tenth bundled image."""
    from robust_zoo.training.data.cifar10_sample import cifar10_sample

    data = cifar10_sample(100)
    order = np.arange(1000).reshape(10, 100).T.flatten()  # every class in turn
    images, labels = data.images.permute(0, 2, 3, 1).numpy()[order], data.labels.numpy()[order]
    np.savez(path, x_train=images[:train], y_train=labels[:train], x_test=images[-test:], y_test=labels[-test:])
    return path


def command(folder, out, *more, recipe=RECIPE):
    """The arguments of `robust-zoo` that train in `out`, logging and saving after every step."""
    file = folder / f"{hashlib.sha256(recipe.encode()).hexdigest()[:8]}.toml"
    file.write_text(recipe)
    data = folder / "data.npz"
    if not data.exists():
        write_data(data)
    return [
        "train", NAME, "--data", data, "--out", out, "--recipe", file, "--log-steps", 1, "--save-seconds", 0,
        "--precision", "fp32", "--device", "cpu", *more,
    ]  # fmt: skip


def losses(out):
    """float.hex of every loss in the log, by step."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(e["step"], float(e["loss"]).hex()) for e in lines if e["kind"] == "step"]


def weights_sha256(out, name=EXPORTED):
    """Of the exported tensors alone (the header names the hours it took)."""
    digest = hashlib.sha256()
    with safe_open(out / name, framework="numpy") as file:
        for key in sorted(file.keys()):
            digest.update(key.encode() + file.get_tensor(key).tobytes())
    return digest.hexdigest()


def status(out):
    return json.loads((out / "status.json").read_text())


def until(condition, seconds=60):
    """Waits for something a process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
