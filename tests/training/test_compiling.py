"""How a step is run is chosen by what was measured, and never by what gives other numbers."""

import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from runs import EXPORTED, RECIPE, command, losses, status, until, weights_sha256
from torch import nn

from robust_zoo.architectures.build import build
from robust_zoo.errors import UsageError
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.distributed import ALONE
from robust_zoo.training.log import read_log
from robust_zoo.training.loop import train_model
from robust_zoo.training.machine import Settings
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.signals import Interrupt, Stopped
from robust_zoo.training.steps import step as step_module
from robust_zoo.training.steps.compiling import PARITY, choose
from robust_zoo.training.steps.passes import optimizer_for
from robust_zoo.training.steps.step import make_step
from robust_zoo.training.steps.ways import EAGER, WAYS, ways_of

SHORT = recipe_for(get("resnet18_x0_25_cifar10_l2_eps0_5"))
TINY = replace(SHORT, architecture="tiny", epochs=2, batch_size=8, lr=0.05, random_start=True)
DATA = cifar10_sample(2)


def tiny_model(dtype=torch.float32):
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    network = nn.Sequential(*first, nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(392, 10))
    return PixelModel(network, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).to(dtype).train()


class Stand(nn.Module):
    """What inductor makes, as far as a choice can tell: the same passes, slower, wrong by `off`, or not at all."""

    def __init__(self, module, off=0.0, seconds=0.0, fails=False):
        super().__init__()
        self.module, self.off, self.seconds, self.fails = module, off, seconds, fails

    def forward(self, *args):
        if self.fails:
            raise RuntimeError("no compiler\nhere")
        time.sleep(self.seconds)
        found = self.module(*args)
        if isinstance(found, tuple):
            return found[0] * (1 + self.off), *found[1:]
        return found + self.off * torch.arange(10.0).flip(0)


def chosen(monkeypatch, dtype=torch.float32, bf16=False, **how):
    """The choice where compiled passes are such, on a batch of eight; and the step, with what it was before."""
    slow_eager, recipe = how.pop("eager_seconds", 0.0), how.pop("recipe", TINY)
    monkeypatch.setattr(step_module, "compiled", lambda module: Stand(module, **how))
    model = tiny_model(dtype)
    step = make_step(model, recipe, optimizer_for(model, recipe), bf16=bf16)
    eager = step.objective
    if slow_eager:
        step.objective.register_forward_pre_hook(lambda *_: time.sleep(slow_eager) if step.way != "all" else None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    ((images, labels),) = DATA.subset(torch.arange(8)).batches(8)
    choice = choose(step, images.to(dtype), labels, recipe)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state) and step.objective is eager
    assert all(p.grad is None for p in model.parameters())
    return choice


def test_the_fastest_way_that_gives_the_same_numbers_is_taken(monkeypatch):
    choice = chosen(monkeypatch, eager_seconds=0.02)
    assert choice.way == "all" and not any("refused" in seen for seen in choice.tried.values())
    assert choice.tried["all"]["parity"] == {"images": 0, "loss": 0, "gradients": 0}
    assert "steps run attack and update compiled" in str(choice)


@pytest.mark.parametrize("objective", ["arks", "regional"])
def test_other_objectives_are_tried_alike(monkeypatch, objective):
    recipe = replace(TINY, objective=objective, random_start=False)
    assert chosen(monkeypatch, eager_seconds=0.02, recipe=recipe).tried["all"]["parity"]["gradients"] == 0
    tried = chosen(monkeypatch, off=0.1, recipe=recipe).tried
    assert "not the same numbers" in tried["all"]["refused"]


def test_without_an_attack_there_is_none_to_compile(monkeypatch):
    choice = chosen(monkeypatch, eager_seconds=0.02, recipe=replace(TINY, threat=ThreatModel("l2", 0.0)))
    assert set(choice.tried) == {EAGER, "update"} == set(ways_of(False))
    assert "attack" not in str(choice)


def test_a_slower_way_is_not_taken(monkeypatch):
    choice = chosen(monkeypatch, seconds=0.01)
    assert choice.way == EAGER and "the attack compiled: 0." in str(choice)


@pytest.mark.parametrize(("dtype", "bf16"), [(torch.float32, False), (torch.float64, False), (torch.float32, True)])
def test_other_numbers_are_refused_however_fast(monkeypatch, dtype, bf16):
    """Wrong by a tenth in the attack's logits, which turns its gradients, or in the update's loss."""
    off = 3 * PARITY[torch.bfloat16].loss if bf16 else 0.1  # in bf16 the loss alone tells
    choice = chosen(monkeypatch, dtype, bf16, off=off, eager_seconds=0.02)
    assert choice.way != "all" and "not the same numbers" in choice.tried["all"]["refused"]


def test_what_cannot_be_compiled_is_run_as_it_is(monkeypatch):
    choice = chosen(monkeypatch, fails=True)
    assert choice.way == EAGER and choice.tried["all"] == {"refused": "RuntimeError: no compiler"}
    assert "RuntimeError: no compiler" in str(choice)


def trained(out, model=None, **settings):
    out.mkdir(exist_ok=True)
    with Interrupt() as interrupt:
        how = Settings(log_steps=1, progress=False, **settings)
        return train_model(
            model or tiny_model(), TINY, DATA, DATA, out, world=ALONE, interrupt=interrupt, settings=how
        )  # fmt: skip


def test_a_run_logs_its_way_and_ends_as_if_nothing_had_been_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(step_module, "compiled", Stand)
    plain, tried = trained(tmp_path / "off"), trained(tmp_path / "on", compile="on")
    for a, b in zip(plain.state_dict().values(), tried.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    (entry,) = read_log(tmp_path / "on", "way")
    assert entry["way"] in WAYS and set(entry["tried"]) == set(ways_of(True))
    assert not read_log(tmp_path / "off", "way")
    assert not trained(tmp_path / "auto", compile="auto").training or not read_log(tmp_path / "auto", "way")


def test_a_run_goes_on_as_it_began_or_says_why_not(monkeypatch, tmp_path):
    """Its way is in its checkpoint; a machine may be faster or slower than the one before."""
    made = []

    def compiled(module):
        made.append(type(module).__name__)
        return Stand(module)

    monkeypatch.setattr(step_module, "compiled", compiled)
    monkeypatch.setattr("robust_zoo.training.steps.compiling._TIMED", 1)
    model = tiny_model()
    model.register_forward_pre_hook(lambda module, args: time.sleep(0.01 if not made else 0))
    polls = iter([""] * 30 + ["a test"])

    def poll(self, *_):
        if reason := next(polls, ""):
            raise Stopped(reason)

    with monkeypatch.context() as until_stopped:
        until_stopped.setattr(Interrupt, "poll", poll)
        with pytest.raises(Stopped):
            trained(tmp_path, model, compile="on")
    way = read_log(tmp_path, "way")[0]["way"]
    assert way != EAGER and len(read_log(tmp_path, "step")) == 1
    made.clear()
    trained(tmp_path, compile="auto")  # which alone would not compile here
    assert made and len(read_log(tmp_path, "way")) == 1 and len(read_log(tmp_path, "step")) == 4
    with pytest.raises(UsageError, match="another way") as error:
        trained(tmp_path, compile="off")
    assert error.value.expected == f"way: {way}, as the run was begun with"


@pytest.mark.peers
@pytest.mark.parametrize("ranks", [1, 2])
def test_kills_of_a_compiled_run_change_nothing(zygote, two_ranks, tmp_path, ranks):
    """With inductor itself, each process compiling anew, from the moment on at which a way was chosen."""
    recipe, rng = RECIPE + "random_start = true\nema_decay = 0.9\n", random.Random(3)

    def start(out):
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / f"cache{rng.random()}")}
        if ranks == 2:
            return two_ranks(out, "--compile", "on", recipe=recipe, environment=cache)
        arguments = command(tmp_path, out, "--compile", "on", recipe=recipe)
        return [zygote.start(arguments, tmp_path / "output.txt", cache)]

    def killed_after(out, step):
        pids = start(out)
        until(lambda: (out / "log.jsonl").exists() and len(losses(out)) >= step, seconds=300)
        time.sleep(rng.random() * 0.05)
        os.kill(pids[-1], signal.SIGKILL)
        return [zygote.wait(pid) for pid in pids]

    whole, out = tmp_path / "whole", tmp_path / "run"
    assert killed_after(out, 1)[-1] == -signal.SIGKILL
    shutil.copytree(out, whole)
    assert [zygote.wait(pid) for pid in start(whole)] == [0] * ranks
    for step in (4, 9):
        killed_after(out, step)
    if not (out / EXPORTED).exists():
        assert [zygote.wait(pid) for pid in start(out)] == [0] * ranks
    assert status(out)["state"] == "finished" and len(losses(out)) == 15
    assert losses(out) == losses(whole) and weights_sha256(out) == weights_sha256(whole)
    ((way,),) = ({entry["way"] for entry in read_log(folder, "way")} for folder in [out])
    print(f"{ranks} processes, way {way}")


@pytest.mark.peers
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("objective", ["adversarial", "arks", "regional"])
def test_inductor_is_within_the_stated_parity(objective, bf16):
    torch.manual_seed(0)
    model = PixelModel(build("resnet18_x0_25", num_classes=10), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).train()
    model.to(memory_format=torch.channels_last)
    recipe = replace(TINY, architecture="resnet18_x0_25", objective=objective, random_start=objective == "adversarial")
    step = make_step(model, recipe, optimizer_for(model, recipe), bf16=bf16)
    ((images, labels),) = DATA.subset(torch.arange(8)).batches(8)
    choice = choose(step, images.contiguous(memory_format=torch.channels_last), labels, recipe)
    for name in ("attack", "all"):
        assert "refused" not in choice.tried[name], choice
