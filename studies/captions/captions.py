"""The captions study: do better language models make better captioners (Tanti et al. 2019), on robust features too?

    python -m studies.captions.captions FOLDER

Pictures of Tux Paint with captions that people wrote are described by the merge architecture on frozen features of
bundled models. Its embedding and GRU are new, or come from a language model of the same captions, of WordNet's glosses
or of Jane Austen's novels, and stay as they are or are tuned. Ten splits. The three packages of Debian's are brought to
FOLDER by apt-get. A split that is done is not done again. Ends with all cells in cells.jsonl beside this file, and the
tables of README.md there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo import get
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.transfer.features import Backbone, features
from robust_zoo.training.transfer.heads import Scale
from studies.captions import scores, sources, tables
from studies.captions.beam import write
from studies.captions.merge import Captioner, Language, Training, mean_surprise, seeded, train
from studies.captions.text import Sentence, Vocabulary
from studies.debian import STAMPS, bring

HERE = Path(__file__).parent
SPLITS = range(10)
FIT, CHECK = 0.6, 0.15  # of the captions; the others test
LEAST = 2  # times a word must be in the captions that are trained on
SENTENCES, HELD_OUT = 20_000, 1_000  # of another text, to train on and to compare epochs on
OTHERS = Training(batch=128, epochs=5, patience=1)  # how a language model of another text is trained
BEAM, RANK, RIVALS = 4, 5, 100  # widths of the beam; of so many images
_COLOURS = 6  # mean colours a side, of the control
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """The captions of a split that are for one thing.

    Attributes:
        images: Their numbers, (N,).
        captions: N.
        words: The same as numbers, (N, T).
    """

    images: Tensor
    captions: list[Sentence]
    words: Tensor


def divide(captions: Sequence[Sentence], split: int) -> tuple[Part, Part, Part, Vocabulary]:
    """Images to train on, to compare epochs on, to test on: all that share a caption are in one of them.

    Args:
        captions: Of all images.
        split: Which division.

    Returns:
        The three, and the vocabulary of the first.
    """
    different = sorted(set(captions))
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(split)).tolist()
    place = {different[number]: at / len(different) for at, number in enumerate(order)}
    of: tuple[list[int], ...] = ([], [], [])
    for image, caption in enumerate(captions):
        of[(place[caption] >= FIT) + (place[caption] >= FIT + CHECK)].append(image)
    vocabulary = Vocabulary.of((captions[image] for image in of[0]), LEAST)
    texts = [[captions[image] for image in images] for images in of]
    fit, check, test = (Part(torch.tensor(i), t, vocabulary.encode(t)) for i, t in zip(of, texts, strict=True))
    return fit, check, test, vocabulary


def language_models(
    texts: Mapping[str, Sequence[Sentence]], fit: Part, check: Part, vocabulary: Vocabulary, split: int
) -> dict[str, tuple[Captioner, int, int]]:
    """A language model of each text, over the words of captions.

    Args:
        texts: Others than captions.
        fit: Captions to train on.
        check: Captions to compare epochs on.
        vocabulary: Of captions.
        split: The seed, of which sentences, too.

    Returns:
        By the text's name: the network, on how many sentences it was trained, the epochs of the one that was kept.
    """
    pairs = {tables.SAME: (fit.words, check.words, Training())}
    for name, sentences in texts.items():
        order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(split))
        words = vocabulary.encode([sentences[i] for i in order[: SENTENCES + HELD_OUT].tolist()])
        pairs[name] = words[HELD_OUT:], words[:HELD_OUT], OTHERS
    found = {}
    for name, (words, held_out, how) in pairs.items():
        net = seeded(split, lambda: Captioner(vocabulary.size, 0))
        found[name] = net, len(words), train(net, (None, words), (None, held_out), how, split)
    return found


def judge(net: Captioner, images: Tensor | None, test: Part, vocabulary: Vocabulary) -> dict[str, Any]:
    """All that is measured of a network on the test captions.

    Args:
        net: In eval mode.
        images: (N, width) of the test images; None for a language model, which writes one sentence for all.
        test: The captions.
        vocabulary: Of captions.

    Returns:
        By name, with the number of captions and how many different ones were written.
    """
    rows = [None] if images is None else images
    said = [vocabulary.decode(write(net, image, BEAM)[0]) for image in rows]
    written = said * len(test.captions) if images is None else said
    with torch.no_grad():
        found: dict[str, Any] = {"perplexity": math.exp(mean_surprise(net, images, test.words))}
    found |= {f"bleu{n}": value for n, value in enumerate(scores.bleu(written, test.captions), 1)}
    found |= {"cider": scores.cider(written, test.captions), "f1": scores.word_f1(written, test.captions)}
    if images is not None:
        found["recall"] = scores.recall(net, images[:RIVALS], test.words[:RIVALS], RANK)
    return found | {"n": len(test.captions), "different": len(set(said))}


def vectors(images: Tensor, folder: Path) -> dict[str, Tensor]:
    """What captioners see: features of each model, and the control, mean colours.

    Args:
        images: (N, 3, S, S) uint8.
        folder: Of the cache of features.

    Returns:
        (N, width) float32 by name.
    """
    data, found = Images(images, torch.zeros(len(images), dtype=torch.int64)), {}
    for name in tables.BACKBONES:
        found[name] = torch.from_numpy(features(Backbone(get(name)), data, folder).copy())
    found[tables.COLOURS] = F.adaptive_avg_pool2d(images / 255, _COLOURS).flatten(1)
    return found


def cells(
    captions: Sequence[Sentence], seen: Mapping[str, Tensor], texts: Mapping[str, Sequence[Sentence]], split: int
) -> Iterator[Cell]:
    """All of one split.

    Args:
        captions: Of all images.
        seen: As `vectors` has it.
        texts: Others than captions.
        split: Which; the seed of everything.

    Yields:
        A cell for each language model, then one for each captioner.
    """
    fit, check, test, vocabulary = divide(captions, split)
    models = language_models(texts, fit, check, vocabulary, split)
    for text, (net, n, epochs) in models.items():
        about = {"split": split, "sees": None, "text": text, "sentences": n, "epochs": epochs, "words": vocabulary.size}
        yield about | judge(net, None, test, vocabulary)
    for name, raw in seen.items():
        images = Scale.of(raw[fit.images])(raw)
        fitted, checked = ((images[part.images], part.words) for part in (fit, check))
        for start in tables.STARTS:
            began = time.process_time()
            net = captioner(vocabulary.size, images.shape[1], start, models, split)
            epochs = train(net, fitted, checked, Training(), split)
            about = {"split": split, "sees": name, "text": start.text, "frozen": start.frozen, "epochs": epochs}
            measured = judge(net, images[test.images], test, vocabulary)
            yield about | measured | {"cpu seconds": round(time.process_time() - began, 2)}


def captioner(
    size: int, width: int, start: tables.Start, models: Mapping[str, tuple[Captioner, int, int]], seed: int
) -> Captioner:
    """An untrained captioner; what is new in it is the same for one seed, wherever the rest comes from."""
    language: Language | None = models[start.text][0].language if start.text else None
    return seeded(seed, lambda: Captioner(size, width, language, start.frozen))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the packages, the cells, and the cache of features")
    folder = parser.parse_args().folder
    bring(sources.PACKAGES, (STAMPS, sources.GLOSSES, sources.NOVELS), folder)
    stamps = sources.stamps(folder / STAMPS)
    texts = {"WordNet": sources.glosses(folder / sources.GLOSSES), "Austen": sources.novels(folder / sources.NOVELS)}
    seen = vectors(stamps.images, folder / "features")
    for split in SPLITS:
        file = folder / f"split{split}.jsonl"
        if not file.exists():
            lines = [json.dumps(cell) + "\n" for cell in cells(stamps.captions, seen, texts, split)]
            replace_file(file, "".join(lines).encode(), GO_ON)
    done = "".join((folder / f"split{split}.jsonl").read_text("utf-8") for split in SPLITS)
    replace_file(HERE / "cells.jsonl", done.encode(), GO_ON)
    print(tables.tables(tables.read()), end="")


if __name__ == "__main__":
    main()
