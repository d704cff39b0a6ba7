# %% [markdown]
# # A first robust model, and an attack on your photo
#
# Load a standard and a robust model, let both classify a photo, change the photo by less than the eye notices, and see
# which of them still says the same. About 10 seconds on one CPU core, offline.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image

import robust_zoo
from robust_zoo.training import attack_images, cifar10_sample, pgd, pgd_accuracy

models = {"standard": "resnet18_x0_25_cifar10_l2_eps0", "robust": "resnet18_x0_25_cifar10_l2_eps0_5"}

# %% [markdown]
# The two are small CIFAR-10 models that come with the package. A name says what a model is: the architecture
# (`resnet18_x0_25`), the data if it is not ImageNet, the norm and radius `eps` that it was trained against; `eps0` is
# ordinary training. For ImageNet take `resnet50_l2_eps0` and `resnet50_l2_eps3`: they are downloaded and verified once.
#
# ## A photo
#
# Give the path of a photo of yours; until you do, a bundled image of a horse stands in.

# %%
own_photo = ""
photo = Path(own_photo or "horse.png")
if not own_photo:
    horse = cifar10_sample(1).images[7]  # (3, 32, 32), values from 0 to 255
    Image.fromarray(horse.permute(1, 2, 0).numpy()).save(photo)

# %% [markdown]
# ## Load and classify
#
# `create_model` gives a timm model with verified weights, `transform` the preprocessing that its figures are of.

# %%
class_names = robust_zoo.get(models["robust"]).collection.dataset.class_names
for kind, name in models.items():
    model = robust_zoo.create_model(name).eval()
    prepare = robust_zoo.transform(model)  # a PIL image -> (3, 32, 32), resized, cropped, normalised
    with torch.no_grad(), Image.open(photo) as image:
        chances = model(prepare(image)[None]).softmax(1)[0]
    print(f"{kind}: {class_names[chances.argmax()]}, {100 * chances.max():.0f} %")

# %% [markdown]
# ## Attack it
#
# `attack_images` (on the command line `robust-zoo attack`) looks for an image within `eps` that the model calls
# something else. L2 0.5 means: the root of the sum of all squared changes is at most 0.5, with pixels from 0 to 1. Both
# models get the same attack, 20 steps of PGD.

# %%
threat = robust_zoo.ThreatModel("l2", 0.5)
found = {kind: attack_images(name, [photo], threat, "pgd-20", Path(kind))[0] for kind, name in models.items()}
for kind, one in found.items():
    print(f"{kind}: {one.before[0]} -> {one.after[0]}, written to {one.saved}")

# %% [markdown]
# ## What changed
#
# The change itself, ten times as strong, around grey. What fools the standard model looks like noise; what would fool
# the robust one follows the animal ([Tsipras et al. 2019](https://arxiv.org/abs/1805.12152), figure 2), and is too
# small to succeed.

# %%
figure, grid = plt.subplots(2, 3, figsize=(6.6, 4.6), layout="constrained")
for row, (kind, one) in zip(grid, found.items(), strict=True):
    change = (0.5 + 10 * (one.adv_image - one.image)).clamp(0, 1)
    titles = (f"{one.before[0]}, {one.before[1]:.0f} %", f"{one.after[0]}, {one.after[1]:.0f} %", "the change x 10")
    for axes, picture, title in zip(row, (one.image, one.adv_image, change), titles, strict=True):
        axes.imshow(picture.permute(1, 2, 0).numpy())
        axes.set(xticks=[], yticks=[], title=title)
    row[0].set_ylabel(f"{kind} model")
figure.savefig("attack.png", dpi=100)

# %% [markdown]
# ## One image is an anecdote
#
# So count. `pixel_model` takes images in [0, 1] and normalises inside, which is what attacks need: an `eps` is a radius
# of pixels. `pgd` is the attack as a function; `pgd_accuracy` counts the images that it cannot break.

# %%
data = cifar10_sample(10)  # ten test images of each class
count = {}
for kind, name in models.items():
    model = robust_zoo.pixel_model(robust_zoo.create_model(name)).eval()
    count[kind] = [pgd_accuracy(model, data, threat, steps=steps) for steps in (0, 10)]
    print(f"{kind}: clean {count[kind][0]}\n{' ' * len(kind)}  under attack {count[kind][1]}")

images, labels = data.images[:10].float() / 255, data.labels[:10]
adv_images = pgd(model, images, labels, threat, steps=10, step_size=0.125)  # the attack in your own hands

# %% [markdown]
# **What these figures mean.** Robust accuracy is the share of images that stay right *whatever* is done to them within
# `eps`. An attack finds what it finds, so PGD gives an upper bound; AutoAttack gives a tighter one (`robust-zoo
# evaluate --attack autoattack`). The robust model pays with clean accuracy; what it has for it besides robustness are
# other features, which [Salman et al. 2020](https://arxiv.org/abs/2007.08489), section 2, transfer.
#
# **What not.** They say nothing of other radii, other norms, rotations, weather or stickers. And 100 images give an
# accuracy to within about ten points: that is the interval beside it.

# %%
assert all(one.sizes["l2"] <= 0.5 + 1e-5 for one in found.values())
assert own_photo or (found["standard"].fooled and not found["robust"].fooled)
assert (adv_images - images).flatten(1).norm(dim=1).max() <= 0.5 + 1e-5
clean, attacked = zip(*count.values(), strict=True)
assert clean[0].correct > clean[1].correct >= 70  # 89 and 78 of 100
assert attacked[0].correct <= 5 and attacked[1].correct >= 45  # 0 and 53
