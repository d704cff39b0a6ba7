# %% [markdown]
# # What a robust model sees
#
# The attack that turns a cat into a dog for a model can also draw: begun at grey noise, it shows what a class is to the
# network. A standard network draws noise, a robust one draws animals and cars. About 15 seconds on one CPU core,
# offline.

# %%
import torch

import robust_zoo
from robust_zoo import visualization
from robust_zoo.training import cifar10_sample

zoo = "resnet18_x0_25_cifar10"  # small CIFAR-10 models that come with the package
standard, robust, judge = (f"{zoo}_{threat}" for threat in ("l2_eps0", "l2_eps0_5", "linf_eps8"))
# beside it stands the standard model of its architecture
seen = robust_zoo.visualize(robust, ["synthesis", "gradient"], out=".")
seen["synthesis"].picture

# %% [markdown]
# ## Drawing with an attack
#
# An attack looks for a small change that makes the label *wrong*. Two things are different here: the change makes a
# label *right*; and its radius is 30, where the robust model was trained for 0.5. Nothing else is asked of the image:
# no training images, no generator, no smoothing. This is the class-conditional synthesis of [Santurkar et al.
# 2019](https://arxiv.org/abs/1906.09453), at its smallest; `visualization.synthesise` is the function, and
# `robust-zoo visualize` does the same on the command line.
#
# Begun at an image instead of at noise, it shows what would have to change for the model to see another class in it.

# %%
images = cifar10_sample(1).images.float() / 255  # a test image of each class
names = robust_zoo.get(robust).collection.dataset.class_names
towards = ["deer", "truck"]  # what a cat and a ship are changed towards
changed = visualization.more_like(robust, images[[3, 8]], towards)
print(f"changed by {(changed - images[[3, 8]]).flatten(1).norm(dim=1).mean():.1f} in L2")

# %% [markdown]
# ## More than taste?
#
# Pictures persuade, so ask a judge that took no part: a third model, trained against another threat (Linf 8/255). It
# names what the robust model drew. Of what the standard model drew it can make little, though the standard model
# itself is sure of every one. What the picture shows is there as arrays, too.

# %%
drawn = seen["synthesis"].arrays
labels = torch.arange(len(names))


def named(judge, drawer):
    """How many of the ten that one model drew another calls what they were to be."""
    model = robust_zoo.pixel_model(robust_zoo.create_model(judge)).eval()
    with torch.no_grad():
        return int((model(torch.from_numpy(drawn[drawer])).argmax(1) == labels).sum())


own = {drawer: named(drawer, drawer) for drawer in (standard, robust)}
judged = {drawer: named(judge, drawer) for drawer in (standard, robust)}
for drawer in (standard, robust):
    print(f"drawn by {drawer}: named by itself {own[drawer]} of 10, by the judge {judged[drawer]} of 10")

# %% [markdown]
# Fifty images of each model, three seeds and every judge are in `studies/synthesis` of the repository.
#
# ## The same, in one gradient
#
# It can be seen without a single step. The gradient of the loss says which pixels of a real image matter for the
# answer; here it is for one test image of each class, all scaled to the same contrast ([Tsipras et al.
# 2019](https://arxiv.org/abs/1805.12152), figure 2).

# %%
seen["gradient"].picture

# %% [markdown]
# **What this means.** What moves a robust model means something to another robust model, and to us. Features of that
# kind are the paper's reason why robust models may transfer better ([Salman et al.
# 2020](https://arxiv.org/abs/2007.08489), section 2). `invert`, `maximise` and `interpolate` of `visualization` look at
# them.
#
# **What it does not mean.** The drawings are no samples of the training images, and no measure of robustness: for that,
# attack (tutorial 1).
#
# With ImageNet models only names change: `robust-zoo visualize resnet50_l2_eps3`. A GPU helps.

# %%
assert changed.shape == (2, 3, 32, 32) and (changed - images[[3, 8]]).flatten(1).norm(dim=1).max() < 6.001
assert own[standard] >= 9 and own[robust] >= 9
assert judged[robust] >= 7  # 9 when this was written; chance is 1
assert judged[standard] <= 3  # 1 when this was written
