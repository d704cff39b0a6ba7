"""What the captions study reads: Tux Paint's layout, WordNet's glosses, R's novels; what is malformed is said."""

import struct
import zlib

import pytest
import torch
from PIL import Image

from robust_zoo.errors import UsageError
from studies.captions import sources, text


def stamp(folder, name, colour, caption, size=(8, 8)):
    file = folder / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", size, colour).save(file)
    if caption is not None:
        file.with_suffix(".txt").write_bytes(caption)


def vector(*texts, kind=16):
    """A character vector, as R serialises it."""
    lines = [struct.pack(">Ii", 0x40009, len(line)) + line for line in texts]
    return (
        b"X\n"
        + struct.pack(">iiii", 3, 0x40201, 0x30500, 5)
        + b"UTF-8"
        + struct.pack(">II", kind, len(lines))
        + b"".join(lines)
    )


def packed(*chunks):
    return b"".join(struct.pack(">I", len(chunk)) + zlib.compress(chunk) for chunk in chunks)


def test_stamps_are_read_with_their_first_line(tmp_path):
    """On white, the whole of what is not square; what has no caption of words, or was there before, is left out."""
    stamp(
        tmp_path,
        "animals/frog",
        (255, 0, 0, 255),
        b"A tree-frog\xe2\x80\x99s friend! It sings.\nfr.utf8=Une grenouille.\n",
        (8, 4),
    )
    stamp(tmp_path, "animals/half", (0, 0, 0, 128), b"A shadow.")
    stamp(tmp_path, "animals/same", (0, 0, 0, 128), b"Its copy.")
    stamp(tmp_path, "animals/untold", (0, 0, 1, 255), None)
    stamp(tmp_path, "animals/empty", (0, 0, 2, 255), b"\nde.utf8=Ein Tier.")
    stamp(tmp_path, "animals/long", (0, 0, 3, 255), b"so " * (text.LONGEST + 1))
    stamp(tmp_path, "symbols/a", (0, 0, 4, 255), b"The letter A.")
    found = sources.stamps(tmp_path)
    assert found.captions == [("a", "tree-frog's", "friend"), ("a", "shadow")]
    frog, half = found.images
    assert frog[:, 32, 32].tolist() == [255, 0, 0] and (frog[:, :10] == 255).all() and (frog[:, 54:] == 255).all()
    assert torch.allclose(half.float(), torch.tensor(127.0), atol=1)


def test_glosses_are_cut_where_wordnet_and_sentences_are(tmp_path):
    for part in ("noun", "verb", "adj"):
        (tmp_path / f"data.{part}").write_text("  1 a licence | \n00 04 n 01 x 0 000 | a small frog; alone\n")
    (tmp_path / "data.adv").write_text('00 02 r 01 y 0 000 | in a way; "he ran. She did not"  \n')
    ends = [("in", "a", "way"), ("he", "ran"), ("she", "did", "not")]
    assert sources.glosses(tmp_path) == [("a", "small", "frog")] * 3 + ends


def test_novels_are_read_across_lines_and_titles(tmp_path):
    one = vector(b"PRIDE", b"", b"It was Mr. Darcy", b"who came. He was tall!", b"No.")
    file = tmp_path / "Rdata.rdb"
    file.write_bytes(packed(one, vector("“She said so,” said Zoë.".encode())))
    first = ("pride", "it", "was", "mr", "darcy", "who", "came")
    assert sources.novels(file) == [first, ("he", "was", "tall"), ("she", "said", "so", "said", "zo")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        packed(vector(b"It was so.", kind=13)),
        packed(b"A\n" + bytes(30)),
        packed(b"X\n"),
        packed(vector(b"It was so."))[:-3],
        b"\0\0\0\1" + packed(vector(b"It was so."))[4:],
        packed(vector(b"It was \xff so.")),
        packed(vector(b"It was so.")[:-2]),
        packed(vector(b"So.")),
    ],
)
def test_other_files_are_no_novels(tmp_path, content):
    (tmp_path / "Rdata.rdb").write_bytes(content)
    with pytest.raises(UsageError, match="cannot read novels") as said:
        sources.novels(tmp_path / "Rdata.rdb")
    assert said.value.source and said.value.expected and said.value.actual and "apt-get" in said.value.next


def test_other_folders_are_no_stamps_and_no_glosses(tmp_path):
    with pytest.raises(UsageError, match="pictures with captions"):
        sources.stamps(tmp_path)
    with pytest.raises(UsageError, match="glosses"):
        sources.glosses(tmp_path)
    (tmp_path / "data.noun").write_text("no line has one\n")
    with pytest.raises(UsageError, match="glosses") as said:
        sources.glosses(tmp_path)
    assert said.value.actual == "none"
    stamp(tmp_path, "animals/frog", (255, 0, 0, 255), b"A fr\xf6g.")
    with pytest.raises(UsageError, match="a caption") as said:
        sources.stamps(tmp_path)
    assert said.value.source.endswith("frog.txt") and "UTF-8" in said.value.actual
    (tmp_path / "animals/frog.txt").write_text("A frog.")
    (tmp_path / "animals/frog.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UsageError, match="a picture") as said:
        sources.stamps(tmp_path)
    assert said.value.source.endswith("frog.png")


def test_words_are_numbered_and_rare_ones_are_read_alone():
    captions = [("a", "red", "car"), ("a", "red", "frog"), ("a",)]
    vocabulary = text.Vocabulary.of(captions, 2)
    assert vocabulary.words == ("a", "red") and vocabulary.size == 3
    encoded = vocabulary.encode(captions)
    assert encoded.tolist() == [[1, 2, 3, 0], [1, 2, 3, 0], [1, 0, -1, -1]]
    assert vocabulary.decode([1, 2]) == ("a", "red")
    assert text.Vocabulary(()).encode([]).shape == (0, 1)
