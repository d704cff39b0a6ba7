# %% [markdown]
# # Fine-tune, and keep robustness
#
# A robust checkpoint that is fine-tuned in the ordinary way can lose what made it robust. Three ways to adapt one to
# your images, and what each leaves of it. About 20 seconds on one CPU core, offline.

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt

import robust_zoo
from robust_zoo.counts import Count
from robust_zoo.training import TransferPlan, Workspace, transfer_models
from robust_zoo.training.data.dataset import spread
from robust_zoo.training.transfer.protocols.finetune import Finetune
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.sample_suite import cifar10_half

# %% [markdown]
# ## The images
#
# A target is a dataset that is split for training and testing. Here it is 100 of the bundled CIFAR-10 photos to train
# on, 100 to test on. For a folder of yours write `robust_zoo.training.transfer.datasets.open_target("photos/")` in the
# function.


# %%
def photos():
    target = cifar10_half()
    return replace(target, test=spread(target.test, 100))


# %% [markdown]
# ## Three ways
#
# - **head**: the network stays, a linear classifier is trained on its features.
# - **everything**: all weights are trained on the clean images. The learning rate is high on purpose: six epochs stand
#   for the hundred or more that one often trains.
# - **everything, near the source**: the same, with a penalty for features that leave those of the robust checkpoint, so
#   that what was learnt is not forgotten (learning without forgetting, in [Shafahi et al.
#   2020](https://arxiv.org/abs/1905.08232)).
#
# Settings that are lists, such as `lrs`, would be chosen on validation images; one value each saves time.

# %%
few = {"train_size": 10, "weight_decays": (5e-4,), "epochs": 6, "batch_size": 16}
ways = {
    "head": TransferPlan("linear", Linear(train_size=10)),
    "everything": TransferPlan("finetune", Finetune(lrs=(0.05,), **few)),
    "near the source": TransferPlan("finetune", Finetune(lrs=(0.003,), lwf=0.02, bn="frozen", augment=False, **few)),
}
threat = robust_zoo.ThreatModel("l2", 0.5)
workspace = Workspace(out=Path("cells"), cache=Path("features"), progress=False)

# %% [markdown]
# ## Train, test, attack
#
# `transfer_models` trains, tests once, and attacks the test images of the model that came out (PGD with 20 steps,
# within the radius that the checkpoint was trained for). Each result is a JSON in `cells`; what is there is not done
# again. The standard checkpoint with a new head is there to compare with.

# %%
zoo = {"standard": "resnet18_x0_25_cifar10_l2_eps0", "robust": "resnet18_x0_25_cifar10_l2_eps0_5"}
starts = [("standard", "head")] + [("robust", way) for way in ways]
clean, robust = {}, {}
for start, way in starts:
    plan = replace(ways[way], threat=threat)
    (cell,) = transfer_models([zoo[start]], [photos], plan, workspace)
    attacked = cell["details"]["robust"]
    clean[start, way] = Count(cell["correct"], cell["n"])
    robust[start, way] = Count(attacked["correct"], attacked["n"])
    print(f"{start} model, {way}:\n  clean {clean[start, way]}\n  under attack {robust[start, way]}")

# %%
figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
for offset, (label, counts) in zip((0.12, -0.12), {"clean": clean, "under attack": robust}.items(), strict=True):
    for place, count in enumerate(counts.values()):
        low, high = count.interval
        colour, title = ("C0", "C1")[label != "clean"], label if place == 0 else None
        axes.plot((low, high), (offset - place,) * 2, color=colour, lw=2)
        axes.plot(count.accuracy, offset - place, "os"[label != "clean"], color=colour, label=title)
axes.set_yticks([-i for i in range(len(starts))], [f"{start} model: {way}" for start, way in starts])
axes.set(xlabel="accuracy on 100 test images, %, and 95 % interval", xlim=(-3, 100))
axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
figure.savefig("finetuned.png", dpi=100)

# %% [markdown]
# ## Read it
#
# - **What you start from matters most.** A head on the standard checkpoint is right on clean images and wrong on every
#   attacked one; a head on the robust checkpoint keeps most of its robustness, for free.
# - **Training everything can lose it again**, as far as the learning rate and the number of steps go. With
#   `lrs=(0.01,)` much less is lost: measure it, do not assume it.
# - **Staying near the source** gets the clean accuracy and keeps the robustness, at least where your images are like
#   those the checkpoint was trained on, as here.
#
# **Mind the noise.** 100 images give an accuracy to within ten points, and other seeds give other models: a difference
# of five points in this table says nothing. Take `seeds=range(5)` and all your test images before you choose.
#
# **What the figures do not mean.** PGD gives an upper bound of robust accuracy: before you publish a figure, run
# AutoAttack. And robustness is kept for the `eps` the checkpoint was trained for; none is gained.

# %%
assert robust["standard", "head"].correct <= 5
assert robust["robust", "head"].interval[0] > robust["standard", "head"].interval[1] + 20
assert robust["robust", "everything"].correct + 10 < robust["robust", "near the source"].correct
assert all(count.correct >= 50 for count in clean.values())
assert len(list(Path("cells").glob("*.json"))) == len(starts)
