"""Images with objects on the disk, as COCO's and VOC's files say it, whose answer is known."""

import json

import numpy as np
from PIL import Image

EDGES = "xmin", "ymin", "xmax", "ymax"
ANNOTATION = {"image_id": 7, "category_id": 3, "bbox": [2, 3, 4, 5]}


def coco(file, annotations, *, images=((7, "a.png", 20, 30),), categories=((18, "dog"), (3, "cat"))):
    """Writes COCO's json: (id, name, height, width) of images, (id, name) of categories."""
    content = {
        "images": [dict(zip(("id", "file_name", "height", "width"), one, strict=True)) for one in images],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": annotations,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def voc_xml(name, objects, *, size=(30, 20)):
    """VOC's xml: (class, edges, difficult) of each object."""
    boxes = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(EDGES, edges, strict=True))
        + "</bndbox></object>"
        for label, edges, difficult in objects
    )
    width, height = size
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height></size>"
        f"{boxes}</annotation>"
    )


def voc(root, splits):
    """Writes VOC's folders: splits -> images -> their xml."""
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}  1\n" for name in images))
        for name, xml in images.items():
            (root / "Annotations" / f"{name}.xml").write_text(xml)
    return root


def squares(root, *, train=24, val=8, side=32):
    """A folder in COCO's layout: grey images, in each a red square and a blue one, of 10 to 14 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            pixels = np.full((side, side, 3), 110, np.uint8)
            for label, x in ((1, 1), (2, 17)):
                size, y = int(rng.integers(10, 15)), int(rng.integers(1, 17))
                pixels[y : y + size, x : x + size] = (230, 20, 20) if label == 1 else (20, 20, 230)
                corners = [x, y, x + size, y, x + size, y + size, x, y + size]
                annotations.append({"image_id": number, "category_id": label, "bbox": [x, y, size, size],
                                    "segmentation": [corners]})  # fmt: skip
            Image.fromarray(pixels).save(root / split / f"{number}.png")
            images.append((number, f"{number}.png", side, side))
        coco(root / "annotations" / f"instances_{split}.json", annotations, images=images,
             categories=((1, "red"), (2, "blue")))  # fmt: skip
    return root
