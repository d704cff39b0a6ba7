"""The granularity study: emoji read right from a package of their layout; README says what its cells say."""

import io
import json
import tarfile
from pathlib import Path

import torch
from PIL import Image

from robust_zoo import list_models
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.transfer import cells
from robust_zoo.training.transfer import granularity as tables
from robust_zoo.training.transfer.task import Target
from studies.granularity import granularity

STUDY = Path(__file__).parents[2] / "studies" / "granularity"
ENTRIES = cells.read_lines(STUDY / "cells.jsonl")


def package(path, listed):
    """A package's file: code point -> (group, RGBA of its picture, whether the set has it)."""
    rows, files = [], {}
    for code, (group, colour, there) in listed.items():
        rows.append({"unified": code, "image": f"{code}.png", "category": group, "has_img_google": there})
        out = io.BytesIO()
        Image.new("RGBA", (64, 64), colour).save(out, "PNG")
        files[f"package/img/google/64/{code}.png"] = out.getvalue()
    files["package/emoji.json"] = json.dumps(rows[::-1]).encode()
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_emoji_are_read_by_group_on_white(tmp_path):
    """In the order of their code points; half a drawing is mixed with white; what the set lacks is left out."""
    listed = {
        **{f"1F{i:03}": ("Objects", (10 * i, 0, 0, 255), True) for i in range(4)},
        **{f"2F{i:03}": ("Flags", (0, 0, 100, 128), True) for i in range(4)},
        "0000": ("Component", (1, 2, 3, 255), True),
        "0001": ("Flags", (1, 2, 3, 255), False),
    }
    package(tmp_path / "emoji-datasource.tgz", listed)
    target = granularity.emoji(tmp_path)  # it is there: nothing is fetched
    assert target.classes == ("Flags", "Objects") and len(target.train) == len(target.test) == 4
    images = torch.cat([target.train.images, target.test.images])
    labels = torch.cat([target.train.labels, target.test.labels])
    reds = images[labels == 1]
    assert sorted(reds[:, 0, 5, 5].tolist()) == [0, 10, 20, 30] and not reds[:, 1:].any()
    mixed = images[labels == 0].float()
    assert torch.allclose(mixed[:, 2], torch.tensor(100 * 128 / 255 + 127), atol=1.5)
    assert torch.allclose(mixed[:, 0], torch.tensor(127.0), atol=1)


def test_mean_colours_tell_colours_apart_and_nothing_else():
    """The control finds classes of other colours, and is at chance where they differ in their finest grain alone."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    noise = torch.randint(0, 60, (120, 3, 36, 36), generator=draw)
    coloured = (noise + 100 * labels[:, None, None, None]).byte()
    board = torch.arange(36).add(torch.arange(36)[:, None]).remainder(2)
    grain = (noise[:, :, :1, :1] + 100 * torch.where(labels[:, None, None, None] == 1, board, 1 - board)).byte()
    found = []
    for images in (coloured, grain):
        data = Images(images, labels)
        halves = data.subset(torch.arange(60)), data.subset(torch.arange(60, 120))
        found.append(granularity.colours(Target("t", ("a", "b"), halves[0], None, halves[1]), 20).mean)
    assert found[0] == 100 and 30 < found[1] < 70


def test_the_studys_tables_and_claims_are_its_cells():
    text = (STUDY / "README.md").read_text(encoding="utf-8")
    models = len(list_models(bundled=True))
    assert len(ENTRIES) == models * len(granularity.LABELS) * len(granularity.SIZES) * len(granularity.DRAWS)
    assert f"{len(ENTRIES)} cells" in text and granularity.tables(ENTRIES) in text
    of = {(grain.dataset, grain.norm): grain.sizes for grain in tables.grains(ENTRIES)}
    values = {key: {size: {eps: f.value for eps, f in line.items()} for size, line in of[key].items()} for key in of}

    def best(dataset, norm):
        return [max(line, key=line.get) for line in values[dataset, norm].values()]

    assert best("cifar10-sample", "l2") == [0, 0.25, 1, 1] and best("emoji", "l2") == [0.5, 0.5, 0.25, 0.25]
    assert [eps * 255 for eps in best("cifar10-sample", "linf")] == [0, 2, 2, 2]
    assert [eps * 255 for eps in best("emoji", "linf")] == [4, 4, 2, 2]
    whole, _, eight, _ = values["cifar10-sample", "l2"].values()
    assert round(whole[0] - whole[1]) == 27 and max(whole.values()) == whole[0]
    gains = sorted(eight[eps] - eight[0] for eps in eight if eps)
    assert (round(gains[0]), round(gains[-1])) == (9, 13) and max(eight.values()) - eight[0.25] < 1
    won = [max(line.values()) - line[0] for line in values["emoji", "l2"].values()]
    assert min(won) >= 3 and max(won) < 7
    assert f"{values['emoji', 'l2'][0][0]:.1f} %; on CIFAR-10" in text
