# %% [markdown]
# # Which eps for my images?
#
# Robust models can be better starting points than standard ones, but not all of them, and not for all images. Rank the
# checkpoints of a ladder of `eps` on a folder of your own images. About 15 seconds on one CPU core, offline.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import robust_zoo
from robust_zoo.training import cifar10_sample, recommend
from robust_zoo.training.transfer.recommend import open_images, table
from robust_zoo.training.transfer.sample_suite import digits
from robust_zoo.training.transfer.splits import stratified_split

# %% [markdown]
# ## A folder of images
#
# `recommend` wants a folder for each class, five images or more in each. Two such folders are made here: handwritten
# digits, which no model of the zoo was trained on, and CIFAR-10 photos, which the bundled models know. Take yours
# instead.

# %%
PER_CLASS = 12
known = {"digits": digits().train, "photos": cifar10_sample()}
for folder, data in known.items():
    for i in stratified_split(data.labels, PER_CLASS, seed=0)[0].tolist():
        file = Path(folder, f"class_{data.labels[i]}", f"{i}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[i].permute(1, 2, 0).numpy()).save(file)

# %% [markdown]
# ## The ladder
#
# Checkpoints that differ only in the `eps` they were trained with: `l2_eps0` is the standard model. For ImageNet that
# is `list_models("resnet50_l2_*")`, ten radii from 0 to 5.

# %%
ladder = robust_zoo.list_models("resnet18_x0_25_*", norm="l2")
print(ladder)

# %% [markdown]
# ## Rank them
#
# Each network's features of the images are computed once and kept in `cache`. On them a linear classifier is trained,
# and tested on images that it has not seen, in turns (cross-validation). On the command line it is one line:
# `robust-zoo recommend photos/ --architecture resnet50 --norm l2 --plot eps.png`. Two folds are for speed here; five,
# the default, leave more images to train on.

# %%
advice = {}
for folder in known:
    images, classes = open_images(Path(folder))
    advice[folder] = recommend(images, ladder, cache=Path("features"), folds=2)
    print(f"\n{folder}\n{table(advice[folder], len(classes))}")

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for (folder, ranking), marker in zip(advice.items(), "os", strict=True):
    points = sorted((a.checkpoint.eps, a.accuracy, *a.interval) for a in ranking)
    eps, accuracy, low, high = zip(*points, strict=True)
    (line,) = axes.plot(eps, accuracy, marker=marker, label=folder)
    axes.fill_between(eps, low, high, color=line.get_color(), alpha=0.15, lw=0)
axes.set(xlabel="L2 eps that the checkpoint was trained with", ylabel="accuracy, %", xticks=eps)
axes.set_title(f"linear classifiers on features, {ranking[0].n} images, 95 % intervals", fontsize=10)
axes.legend(frameon=False)
figure.savefig("which_eps.png", dpi=100)

# %% [markdown]
# ## Read it
#
# - **The best `eps` depends on the images.** On digits L2 0.25 and 0.5 win; on photos of classes that all were trained
#   on, the standard one and the smallest radius. Nobody can know it beforehand, and it takes a minute to measure. The
#   paper finds the same on twelve datasets ([Salman et al. 2020](https://arxiv.org/abs/2007.08489), section 4.3).
# - **`not told apart from the first`** marks checkpoints that lost on so few images that it may be luck (a paired test
#   of the same images, 95 %). Among those choose by other reasons: robustness, size, or the `eps` in the middle.
# - **The interval is of one accuracy**, not of a difference: two checkpoints whose intervals overlap can still be told
#   apart, because they saw the same images.
#
# **What the figures do not mean.** They are of a linear classifier on frozen features; when the whole network is
# trained the best radius may be another (`robust-zoo transfer --protocol finetune` measures it). And they are clean
# accuracies: what robustness is left afterwards is the next tutorial.

# %%
accuracy = {folder: {a.checkpoint.eps: a.accuracy for a in ranking} for folder, ranking in advice.items()}
assert all(a.tied == (a.checkpoint.eps <= 0.1) for a in advice["photos"])
assert accuracy["photos"][0] - accuracy["photos"][0.5] > 5
assert accuracy["digits"][0.25] - accuracy["digits"][0] > 3
assert all(a.tied == (a.checkpoint.eps in (0.25, 0.5)) for a in advice["digits"])
