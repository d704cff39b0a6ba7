# %% [markdown]
# # Train, measure, publish
#
# From images to a repository that others can load by name: adversarial training by a recipe, a figure with its
# evidence, a model card. The model is worth nothing, for a minute's training of it is short; the way is the one of a
# real model. About 20 seconds on one CPU core, offline.

# %%
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import safe_open

import robust_zoo
from robust_zoo.cli import main
from robust_zoo.counts import Count
from robust_zoo.training import EvaluationPlan, Machine, cifar10_sample, evaluate, train
from robust_zoo.training.figures.curves import plot

# %% [markdown]
# ## Data
#
# Small images are one `.npz` with `x_train`, `y_train`, `x_test` and `y_test`. Here it is the bundled CIFAR-10 sample:
# 90 images of each class to train on and 10 to test on. ImageNet is a folder with `train/` and `val/`.

# %%
sample = cifar10_sample()
pixels = sample.images.permute(0, 2, 3, 1).numpy().reshape(10, 100, 32, 32, 3)  # class by class
labels = sample.labels.numpy().reshape(10, 100)
np.savez(
    "images.npz",
    x_train=pixels[:, :90].reshape(-1, 32, 32, 3),
    y_train=labels[:, :90].flatten(),
    x_test=pixels[:, 90:].reshape(-1, 32, 32, 3),
    y_test=labels[:, 90:].flatten(),
)

# %% [markdown]
# ## Recipe
#
# A checkpoint's recipe says how it is trained: `robust-zoo recipe resnet18_x0_25_cifar10_l2_eps0_5` shows it, a file of
# fields changes it. This one takes a smaller network and few epochs. The attack stays: three steps of PGD in each
# update, within L2 0.5, as in [Salman et al. 2020](https://arxiv.org/abs/2007.08489).

# %%
Path("short.toml").write_text('architecture = "resnet10_x0_25_s2"\nepochs = 3\nbatch_size = 16\nlr = 0.1\n')
machine = Machine(device="cpu", precision="fp32", progress=False)
run = Path("run")
weights = train("resnet18_x0_25_cifar10_l2_eps0_5", "images.npz", run, overrides=Path("short.toml"), machine=machine)
print(weights)

# %% [markdown]
# A run that is killed goes on where it was with the same call, and ends with the same weights. Its curves are drawn
# from the log in `run`; three epochs do not make much of one.

# %%
plot([run], Path("curves.png"))

# %% [markdown]
# ## Measure
#
# `evaluate` writes each figure into a folder of results: a JSON with the hashes of weights and images, counts,
# versions, and beside it what became of every image. The same call again only reads it. For a figure to publish take
# `"autoattack"`, all images, and `check=True`, which looks for reasons why the figure would mean nothing.

# %%
plan = EvaluationPlan("pgd-20", n=100, check=False)
(entry,) = evaluate([weights], "images.npz", "cifar10", Path("results"), plan, device="cpu")
clean, robust = (Count(entry[f"{kind}_correct"], entry["n"]) for kind in ("clean", "robust"))
print(f"clean {clean}\nrobust at {entry['norm']} {entry['eps']}: {robust}")

# %% [markdown]
# ## The card, and use
#
# The file carries its recipe, its data's fingerprint and its figures, so that a card can be made of it, and any verb
# takes it in place of a name. `run/row.toml` is the row that would put it into the zoo.

# %%
with safe_open(weights, framework="numpy") as file:
    print(sorted(file.metadata()))
card = (run / "card.md").read_text()
print(card.partition("## ")[2].partition("## ")[0])  # its first section
model = robust_zoo.create_model(weights).eval()

# %% [markdown]
# ## Publish, all but the sending
#
# `robust-zoo publish` makes a repository of the Hugging Face hub: the weights as they are, a config.json for timm, the
# card with its curve, the licence. Another process loads that folder through timm alone and must get the same logits,
# before anything is sent. `--dry-run` stops there; without it, and with a token of your own, one commit is made.

# %%
main(
    ["publish", str(weights), "--namespace", "my-name", "--out", "published", "--dry-run", "--offline", "--quiet"],
    standalone_mode=False,
)
folder = Path("published", weights.stem)
robust_zoo.register_with_timm()  # for timm has no network this small; a resnet50 needs no such line
published = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

# %% [markdown]
# **What the figures mean.** They are of these weights on these 100 images, ten of each class, and known to about ten
# points; chance is 10 %. **What not:** that 900 images and three epochs are a training. The bundled models saw 50,000
# images twelve times.

# %%
assert model.num_classes == 10 and (run / "row.toml").exists()
assert clean.correct >= robust.correct and clean.correct >= 15  # 10 is chance
assert entry["weights_sha256"] in next(Path("results").rglob("*.json")).read_text()
assert weights.stem in card and "at most 0.5 (L2" in card
assert (folder / "model.safetensors").read_bytes() == weights.read_bytes()
images = torch.rand(2, 3, 32, 32)
assert torch.equal(published(images), model(images))
