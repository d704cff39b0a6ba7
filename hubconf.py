"""torch.hub entry points: one a checkpoint, generated from the registry.

torch.hub.list("OWNER/robust_zoo"), torch.hub.help(..., "resnet50_l2_eps3"),
torch.hub.load("OWNER/robust_zoo", "resnet50_l2_eps3") - or source="local" with the path of a checkout.
"""

from robust_zoo.hub import entry_points as _entry_points

dependencies = ["torch", "timm", "safetensors", "huggingface_hub", "requests", "platformdirs", "tqdm"]
globals().update(_entry_points())
