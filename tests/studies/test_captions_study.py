"""The captions study: its splits, what it does again, its tables, and what README says of them."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from robust_zoo import create_model, pixel_model
from studies.captions import captions, sources, tables
from studies.captions.sources import Stamps

STUDY = Path(__file__).parents[2] / "studies" / "captions"
CELLS = tables.read()
CAPTIONS = [("a", colour, thing) for colour in ("red", "green", "blue") for thing in ("car", "frog", "cup", "hat")] * 2


def test_images_that_share_a_caption_are_on_one_side():
    parts = []
    for split in range(3):
        *of, vocabulary = captions.divide(CAPTIONS, split)
        assert sorted(torch.cat([part.images for part in of]).tolist()) == list(range(24))
        assert [len(part.images) for part in of] == [16, 2, 6]  # 60, 15 and 25 % of 12 captions, two images each
        for part in of:
            assert part.captions == [CAPTIONS[image] for image in part.images]
        sides = [set(part.captions) for part in of]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert set(vocabulary.words) == {word for caption in sides[0] for word in caption}
        parts.append(of[2].images.tolist())
    assert parts[0] != parts[1] != parts[2] and parts[0] == captions.divide(CAPTIONS, 0)[2].images.tolist()


def test_captioners_of_one_split_differ_in_their_language_part_alone():
    *_, vocabulary = captions.divide(CAPTIONS, 0)
    lm = captions.Captioner(vocabulary.size, 0)
    nets = [captions.captioner(vocabulary.size, 4, start, {"Austen": (lm, 0, 0)}, 7) for start in (
        tables.SCRATCH, tables.Start("Austen", False), tables.Start("Austen", True))]  # fmt: skip
    for name, value in nets[0].state_dict().items():
        same = [torch.equal(value, net.state_dict()[name]) for net in nets]
        assert same == ([True, False, False] if name.startswith("language.") and "start" not in name else [True] * 3)
    assert torch.equal(nets[1].language.embedding.weight, lm.language.embedding.weight)
    assert [p.requires_grad for net in nets for p in net.language.parameters()] == [True] * 12 + [False] * 6


def test_a_split_that_is_done_is_not_done_again(tmp_path, monkeypatch, capsys):
    """Three small texts, two splits of few captions, all from reading to the table."""
    texts = [(("a", "red", "car"), ("a", "green", "cup"))] * 20
    monkeypatch.setattr(captions, "bring", lambda packages, parts, folder: None)
    monkeypatch.setattr(sources, "stamps", lambda folder: Stamps(torch.zeros(24, 3, 8, 8), CAPTIONS))
    monkeypatch.setattr(sources, "glosses", lambda folder: [s for pair in texts for s in pair])
    monkeypatch.setattr(sources, "novels", lambda folder: [s for pair in texts for s in pair[:1]])
    monkeypatch.setattr(tables, "SEEN", tables.SEEN[:2])
    seen = {name: torch.randn(24, 3, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(tables.SEEN)}
    monkeypatch.setattr(captions, "vectors", lambda images, folder: seen)
    monkeypatch.setattr(captions, "SENTENCES", 10)
    monkeypatch.setattr(captions, "HELD_OUT", 5)
    monkeypatch.setattr(captions, "OTHERS", replace(captions.OTHERS, epochs=1))
    monkeypatch.setattr(captions, "Training", lambda: replace(captions.OTHERS, epochs=1))
    monkeypatch.setattr(captions, "SPLITS", range(2))
    monkeypatch.setattr(captions, "HERE", tmp_path / "study")
    read = tables.read
    monkeypatch.setattr(tables, "read", lambda: read(tmp_path / "study" / "cells.jsonl"))
    (tmp_path / "study").mkdir()
    monkeypatch.setattr(sys, "argv", ["captions.py", str(tmp_path)])
    captions.main()
    said = capsys.readouterr().out
    cells = read(tmp_path / "study" / "cells.jsonl")
    assert len(cells) == 2 * (3 + 2 * 8) and said == tables.tables(cells)
    first, second = (tmp_path / f"split{split}.jsonl" for split in range(2))
    lines = second.read_text() + first.read_text()
    first.rename(tmp_path / "was first")  # as they never come out: they are not done again
    second.rename(first)
    (tmp_path / "was first").rename(second)
    monkeypatch.setattr(captions, "cells", None)
    captions.main()
    assert (tmp_path / "study" / "cells.jsonl").read_text() == lines
    (language_model,) = {c["different"] for c in cells if not c["sees"]}
    assert language_model == 1 and all(c["n"] == 6 for c in cells)


def test_differences_are_paired_by_split():
    """By hand: two splits, what is seen averaged first, the error over splits."""
    tuned = tables.Start("WordNet", False)
    cells = [
        {"sees": sees, "split": split, "text": start.text, "frozen": start.frozen, "f1": value}
        for start, values in ((tables.SCRATCH, (1, 3, 5, 7)), (tuned, (2, 6, 6, 8)))
        for (split, sees), value in zip([(0, "x"), (0, "y"), (1, "x"), (1, "y")], values, strict=True)
    ]
    ours = tables.captioners(cells, "f1", tables.SCRATCH, ("x", "y"))
    assert ours.values.tolist() == [[2, 6]] and (ours.mean, ours.error) == (4, 2)
    less = tables.difference(cells, "f1", (tuned, ("x", "y")), (tables.SCRATCH, ("x", "y")))
    assert less.values.tolist() == [[2, 1]] and (less.mean, less.error) == (1.5, 0.5)


def test_the_studys_tables_are_its_cells():
    text = (STUDY / "README.md").read_text("utf-8")
    assert len(CELLS) == len(captions.SPLITS) * (len(tables.TEXTS) + len(tables.SEEN) * len(tables.STARTS))
    assert f"{len(CELLS)} cells" in text and tables.tables(CELLS) in text
    assert {c["split"] for c in CELLS} == set(captions.SPLITS)


def test_the_studys_claims_are_its_cells():
    text = " ".join((STUDY / "README.md").read_text("utf-8").split())

    def start(name, frozen=False):
        return tables.Start(name, frozen), tables.SEEN

    def gap(ours, theirs, field="perplexity"):
        return tables.difference(CELLS, field, ours, theirs)

    def said(figure):
        return f"{figure.mean:+.2f} ± {figure.error:.2f}"

    scratch, same = start(None), start(tables.SAME)
    alone = {name: tables.language(CELLS, "perplexity", name) for name in tables.TEXTS}
    assert alone[tables.SAME].mean < alone["WordNet"].mean < alone["Austen"].mean  # the best language model, and
    gains = {name: gap(start(name), scratch) for name in tables.TEXTS}
    assert min(gains, key=lambda name: gains[name].mean) == "WordNet"  # the one that transfers best
    assert all(said(gain) in text and f"{alone[name].mean:.1f}" in text for name, gain in gains.items())
    assert all(gain.mean < -2 * gain.error for gain in gains.values())
    lead = gap(same, start("WordNet"))
    assert f"{lead.mean:.2f} ± {lead.error:.2f}, in {int((lead.values > 0).sum())} of ten splits" in text
    for name in tables.TEXTS:
        assert said(gap(start(name, True), start(name))) in text
    assert gap(start("Austen", True), scratch).mean > 0
    assert max(tables.STARTS, key=lambda s: tables.captioners(CELLS, "perplexity", s).mean) == start(None, True)[0]
    assert max(abs(gap(start(name), scratch, "cider").mean) for name in tables.TEXTS) < 0.0045
    moved = {
        (field, name): gap(start(name), scratch, field) for field in ("cider", "f1", "recall") for name in tables.TEXTS
    }
    beyond = {key: f"{one.mean:+.3f}" for key, one in moved.items() if abs(one.mean) > 2 * one.error}
    assert beyond == {("f1", tables.SAME): "-0.006", ("recall", tables.SAME): "+0.004"}
    recalls = [tables.captioners(CELLS, "recall", each).mean for each in tables.STARTS]
    assert f"{min(recalls):.3f} to {max(recalls):.3f}" in text
    silent = [c["different"] for c in CELLS if c["sees"] and c["text"] is None and c["frozen"]]
    assert f"in {silent.count(1)} of {len(silent)} captioners" in text
    for field in ("cider", "f1"):
        best = max(tables.STARTS, key=lambda s: tables.captioners(CELLS, field, s).mean)
        assert best == start(None, True)[0]
    for ours in (scratch, same):
        assert said(tables.captioners(CELLS, "perplexity", *ours) - alone[tables.SAME]) in text
    seen = {name: gap((tables.SCRATCH, (name,)), (tables.SCRATCH, tables.SEEN[:1])) for name in tables.SEEN[1:]}
    assert said(seen[tables.BACKBONES[1]]) in text and said(seen[tables.COLOURS]) in text
    assert all(abs(one.mean) < 2 * one.error for one in seen.values())


def test_captioners_see_features_and_mean_colours(tmp_path, monkeypatch):
    """Of one colour each: shrunk to the network's pixels they are the same, and so are the features."""
    monkeypatch.setattr(tables, "BACKBONES", tables.BACKBONES[2:3])
    colours = torch.tensor([[200, 10, 30], [0, 90, 255]], dtype=torch.uint8)
    seen = captions.vectors(colours[:, :, None, None].expand(2, 3, 64, 64).contiguous(), tmp_path)
    assert list(seen) == [*tables.BACKBONES, tables.COLOURS]
    cells = seen[tables.COLOURS].view(2, 3, 36)
    assert torch.allclose(cells, colours[:, :, None].expand(2, 3, 36) / 255)
    model = pixel_model(create_model(tables.BACKBONES[0], num_classes=0)).eval()
    with torch.no_grad():
        expected = model(colours[:, :, None, None].expand(2, 3, 32, 32) / 255)
    assert torch.allclose(seen[tables.BACKBONES[0]], expected, atol=1e-4) and expected.std(0).max() > 0.1
