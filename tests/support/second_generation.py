"""What the rows of the second generation must be: read from tests/reference/second_generation.csv."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from robust_zoo.registry.reported import Reported, radius_of
from robust_zoo.registry.rows import Checkpoint

_TEXT = (Path(__file__).parents[1] / "reference" / "second_generation.csv").read_text("utf-8")
_COLLECTIONS = {"clip encoders": "schlarmann2024"}
ROWS = {
    row["proposed_name"]: {
        **row,
        "collection": _COLLECTIONS.get(row["collection"], row["collection"].partition(" ")[0]),
    }
    for row in csv.DictReader(line for line in _TEXT.splitlines() if not line.startswith("#"))
}
_STATISTICS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}
_HASH_FROM = {"Git LFS": "the hub's record (Git LFS)"}
_THIRD_PARTY = "a third party's record of 2026-10-08, of the authors' file"
_NOTES = {
    "rodriguezmunoz2024": "Trained with regularised input gradients, not adversarially: its radius is the one it was "
    "made for."
}
_EMBEDDINGS = {"vit_base_patch32_clip": 512, "vit_large_patch14_clip": 768}  # numbers, by OpenAI's papers
_PAGE = re.compile(r"/index\.php/s/\w+$|whole CLIP")  # no file, or another
_COPY = "LICENSE of RobustBench at 78fcc9e, of its copy; the authors name none"
_ARGUMENTS = {
    "_gelu": {"act_layer": "gelu"},
    "_patch14_336": {"img_size": 336, "global_pool": "avg", "num_classes": 1000},
}


def differences(row: Checkpoint) -> list[str]:
    """Fields of a row that are not what the table says."""
    told, p = ROWS[row.name], row.preprocessing
    crop = (tuple(map(int, told["input_size"].split("x"))), told["interpolation"], float(told["crop_pct"]))
    arguments = next((value for key, value in _ARGUMENTS.items() if key in row.name), {})
    places = [_written(url) for url in told["url"].split(" ; ") if not _PAGE.search(url)]
    variant, tag = re.fullmatch(r"(?:([a-z]+)_)?(l.+)", row.name.partition(f"{told['collection']}_")[2]).groups("")
    copied = told["collection"] in ("debenedetti2022", "rodriguezmunoz2024", "mo2022", "xu2024", "singh2023")
    copied = copied and "RobustBench" in told["licence"] and not told["sha256"]
    licence = "mit" if copied else told["licence"].partition(" ;")[0].partition(" (")[0]
    pairs: dict[str, tuple[Any, Any]] = {
        "collection": (row.collection.name, told["collection"]),
        "label": (row.network.label, row.name.partition(f"_{told['collection']}")[0]),
        "parameters": (_near(row.network.parameters, told["params_m"]), True),
        "arguments": (dict(row.network.arguments), arguments),
        "threat": (row.threat.tag, tag),
        "preprocessing": ((p.input_size, p.interpolation, p.crop_pct, p.crop_mode), (*crop, told["crop_mode"])),
        "num_classes": (p.num_classes, next((n for key, n in _EMBEDDINGS.items() if key in row.name), 1000)),
        "statistics": ((p.mean, p.std), _statistics(told["mean_std"])),
        "sources": (sorted(place.at for place in row.sources), sorted(places)),
        "file": (row.file, _file(row, told)),
        "sha256": (row.sha256, told["sha256"] or None),
        "sha256_from": (row.sha256_from, _hash_from(told)),
        "size": (row.size, int(told["bytes"]) if told["bytes"].isdigit() else None),
        "licence": (row.licence, licence),
        "licence_from": (row.licence_from, _COPY if copied else row.collection.licence_from),
        "robustbench": (row.robustbench, told["robustbench_id"]),
        "note": (row.note, _zero_shot(told) or _NOTES.get(told["collection"], "")),
        "reported": (sorted(map(_figure, row.reported)), sorted(_figures(told))),
        "rest": (
            (row.bundled, row.training, row.measured, row.converted_sha256, row.variant),
            (False, "", (), None, variant),
        ),
    }
    return [field for field, (found, expected) in pairs.items() if found != expected]


def _near(parameters: int, millions: str) -> bool:
    """Whether they are the table's, in as many digits as it has (no more than two: it rounds some twice)."""
    digits = min(2, len(millions.partition(".")[2]))
    return not millions or abs(parameters / 1e6 - float(millions)) <= 0.6 * 10**-digits


def salman2020(name: str) -> tuple[str, list[tuple[float, str]]]:
    """A checkpoint of the first generation -> RobustBench's id of it and its two figures of it, where it has it."""
    told = next(row for row in ROWS.values() if row["collection"] == "salman2020")
    first, *more = told["robustbench_id"].split(", ")
    ids = [first, *(first.rpartition("_")[0] + tail for tail in more)]
    figures = re.findall(r"([\d.]+)/([\d.]+)", told["other_figures"].partition(": ")[2])
    names = ["resnet18_linf_eps4", "resnet50_linf_eps4", "wide_resnet50_2_linf_eps4"]
    known = dict(zip(names, zip(ids, figures, strict=True), strict=True))
    if name not in known:
        return "", []
    id, (clean, robust) = known[name]
    return id, [(float(clean), "none"), (float(robust), "autoattack")]


def _written(url: str) -> str:
    url = url.partition(" (")[0]
    if drive := re.fullmatch(r"https://drive\.usercontent\.google\.com/download\?id=([\w-]+)&.*", url):
        return f"gdrive:{drive[1]}"
    if hub := re.fullmatch(r"https://huggingface\.co/(.+)/resolve/(\w{40})/(.+)", url):
        return f"hf:{hub[1]}@{hub[2]}/{hub[3]}"
    return url


def _file(row: Checkpoint, told: dict[str, str]) -> str:
    first = row.sources[0]
    if first.kind == "gdrive":  # which tells no name
        return (told["robustbench_id"] or row.name) + ".pt"
    return (first.path or first.url).rpartition("/")[2].partition("?")[0]


def _statistics(text: str) -> tuple[tuple[float, ...], ...]:
    if known := _STATISTICS.get(re.split(r"\W", text)[0]):
        return known
    numbers = tuple(map(float, re.findall(r"\d+\.\d+", text)))  # of channels, mean before std
    return numbers[:3], numbers[3:6]


def _hash_from(told: dict[str, str]) -> str:
    if not told["sha256"]:
        return ""
    return next((said for word, said in _HASH_FROM.items() if word in told["hash_from"]), _THIRD_PARTY)


def _figure(f: Reported) -> tuple[Any, ...]:
    who = f.by.partition(" (")[0].partition(" et al.")[0].partition(" and ")[0].lower().replace("-", "")
    eps = "" if f.eps is None else radius_of(f.norm, f.eps)
    return (f.value, f.attack, f.norm, eps, who, f.n or 0, f.size or 0)


def _figures(told: dict[str, str]) -> list[tuple[Any, ...]]:
    """All figures of a row of the table, its remarks on others included."""
    author = re.sub(r"\d+$", "", told["collection"])
    board = told["figures_by"].startswith("RobustBench")
    who, n = ("robustbench", 5000) if board else (author, int(told["clean_n"]) if told["clean_n"].isdigit() else 0)
    eps = told["eps"].removesuffix(".0")
    found: list[tuple[Any, ...]] = [(float(told["clean"]), "none", "", "", who, n, 0)] if told["clean"] else []
    if told["aa"]:
        found.append((float(told["aa"]), "autoattack", told["threat"], eps, who, n, 0))
    said = told["other_figures"]
    if both := re.search(r"ARES README on 1,000 images: ([\d.]+)/([\d.]+)", said):
        found.append((float(both[1]), "none", "", "", author, 1000, 0))
        found.append((float(both[2]), "autoattack", "linf", eps, author, 1000, 0))
    if larger := re.search(r"at (\d+) px: ([\d.]+) / ([\d.]+)", said):
        found.append((float(larger[2]), "none", "", "", author, 5000, int(larger[1])))
        found.append((float(larger[3]), "autoattack", "linf", eps, author, 5000, int(larger[1])))
    if author == "peng":
        values = re.findall(r"\d\d\.\d\d", said)
        found += [
            (float(v), "pgd-100", "linf", f"{e}/255", author, 0, 0) for v, e in zip(values, (2, 4, 8), strict=True)
        ]
    found += [(float(v), "autoattack", "l2", "2", author, 5000, 0) for v in re.findall(r"AA L2 2\.0: ([\d.]+)", said)]
    found += [(float(v), "autoattack", "l1", "75", author, 5000, 0) for v in re.findall(r"AA L1 75: ([\d.]+)", said)]
    found += [(float(v), "autoattack", "linf", eps, author, 0, 0) for v in re.findall(r"by authors: AA ([\d.]+)", said)]
    found += [(float(v), "none", "", "", author, 50000, 0) for v in re.findall(r"clean ([\d.]+), PGD", said)]
    found += [
        (float(v), "pgd-100", told["threat"], eps, author, 50000, 0)
        for v in re.findall(r"PGD-100 at \S+(?: 3\.0)? ([\d.]+)$", said)
    ]
    return found


def _zero_shot(told: dict[str, str]) -> str:
    """The note of an encoder: averages over datasets, clean and at 2/255 and 4/255, or at 1/255 too."""
    if told["collection"] != "schlarmann2024":
        return ""
    clean, *attacked = re.findall(r"\d+\.\d+", told["other_figures"])
    radii = (1, 2, 4)[-len(attacked) :]
    under = ", ".join(f"{float(value)} % at {eps}/255" for value, eps in zip(attacked, radii, strict=True))
    return (
        "An image encoder: its embeddings go with CLIP's own text encoder, which is not here. Average zero-shot "
        f"accuracy (README of chs20/RobustVLM): {float(clean)} % clean; attacked, {under}."
    )
