"""A program: loads a folder as anyone does who has timm alone, and says what its network gives.

`rehearsal` starts it by its path, isolated, so that nothing of this package is imported unless it is asked to be. One
JSON request on stdin: {"path", "folder", "register", "images", "threads"}; the last line on stdout is the answer.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What timm makes of the folder.

    Args:
        request: folder: with config.json and model.safetensors; register: whether this package tells timm of its
            networks first; images: paths of pictures; threads: of torch.

    Returns:
        {"gives"}: for each image what the network gives, as numbers.
    """
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    if request["register"]:
        from robust_zoo import register_with_timm

        register_with_timm()
    torch.set_num_threads(request["threads"])
    model = timm.create_model(f"local-dir:{request['folder']}", pretrained=True).eval()
    prepare = create_transform(**resolve_data_config(model=model))
    with torch.inference_mode():
        gives = [model(prepare(Image.open(path).convert("RGB"))[None])[0].tolist() for path in request["images"]]
    return {"gives": gives}


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    found = answer(request)
    if not request["register"] and "robust_zoo" in sys.modules:
        raise RuntimeError("robust_zoo was imported: this is not what timm alone does")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
