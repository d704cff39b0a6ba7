"""torch.hub entry points: one a checkpoint, generated from the registry. What to type stands in `__doc__`."""

from robust_zoo import home as _home
from robust_zoo.hub import entry_points as _entry_points

__doc__ = f"""torch.hub entry points: one a checkpoint{_home.hub_note()}.

{_home.torch_hub("resnet50_l2_eps3")}
"""
dependencies = ["torch", "timm", "safetensors", "huggingface_hub", "requests", "platformdirs", "tqdm"]
globals().update(_entry_points())
