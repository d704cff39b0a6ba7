"""Files of anyone's: sound ones read as they are, all others are a Malformed or an OSError, soon, in little memory."""

import ast
import io
import json
import os
import socket
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from robust_zoo.files import open_file, read_hashed, sha256_of
from robust_zoo.readers import Malformed, open_tar, read_bytes, read_json, read_text, read_toml
from robust_zoo.training.data.npz import read_npy, read_npz

SOUND = {"name": "Füchse", "sizes": [1, 2.5, None, True, {"deep": [[[]]]}]}


# --- What is no file ---------------------------------------------------------------------------------------------


def no_files(folder):
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")  # of the working directory, for a socket's path is short
    return [folder / name for name in ("folder", "pipe", "loop", "socket", "nothing", "x" * 300)] + ["/dev/zero"]


READERS = [read_bytes, read_text, read_json, read_toml, read_npy, lambda p: read_npz(p, ["x"]), sha256_of, read_hashed]


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in no_files(tmp_path):
        for reader in READERS:
            with pytest.raises(OSError):
                reader(type(tmp_path)(path))
        with pytest.raises(OSError), open_tar(type(tmp_path)(path)):
            pass


def test_a_sparse_file_is_judged_by_its_size(tmp_path):
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.write(b'{"a": 1}')
        file.truncate(1 << 43)
    for reader in (read_bytes, read_text, read_json, read_toml):
        with pytest.raises(Malformed, match="8,796,093,022,208 bytes"):
            reader(huge)
    with open_file(huge) as file:
        assert file.read(8) == b'{"a": 1}'


# --- JSON and TOML -----------------------------------------------------------------------------------------------

NOT_JSON = {
    "empty": (b"", "empty"), "blank": (b" \n", "empty"), "binary": (bytes(range(256)), "not UTF-8"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "UTF-16"), "latin-1": ('{"a": "ä"}'.encode("latin-1"), "not UTF-8"),
    "cut": (b'{"a": [1, 2', "not JSON"), "two": (b"{}{}", "not JSON"), "list": (b"[]", "list, not dict"),
    "text": (b'"a"', "str"), "number": (b"1", "int"), "null": (b"null", "NoneType"), "toml": (b"a = 1", "not JSON"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "64 deep"),
    "deeper than 64": (b'{"a":' * 65 + b"1" + b"}" * 65, "64 deep"),
    "twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands twice"),
    "NaN": (b'{"a": NaN}', "not finite"), "Infinity": (b'{"a": [-Infinity]}', "not finite"),
    "1e999": (b'{"a": 1e999}', "not finite"), "10**400": (b'{"a": 1' + b"0" * 400 + b"}", "1,329 bits"),
    "10**5000": (b'{"a": 1' + b"0" * 5000 + b"}", "not JSON"), "2**63": (b'{"a": 9223372036854775808}', "64 bits"),
    "surrogate": (b'{"a": "\\ud800"}', "no Unicode"), "surrogate key": (b'{"\\udcff": 1}', "no Unicode"),
    "large": (b'{"a": "' + b"x" * (1 << 20) + b'"}', "more than the 1,048,576"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_JSON)
def test_not_json(case, tmp_path):
    content, said = NOT_JSON[case]
    (tmp_path / "file").write_bytes(content)
    for source in (content, tmp_path / "file"):
        with pytest.raises(Malformed, match=said) as error:
            read_json(source)
        assert str(error.value).isprintable()


def test_json_as_it_is(tmp_path):
    (tmp_path / "file").write_text(json.dumps(SOUND))
    with_mark = b"\xef\xbb\xbf" + json.dumps(SOUND, ensure_ascii=False).encode()
    for source in (tmp_path / "file", with_mark, json.dumps(SOUND)):
        assert read_json(source) == SOUND
    assert read_json("[1]", list) == [1]
    assert str(read_json('{"a": NaN}', finite=False)) == "{'a': nan}"
    assert read_json(b'{"a":' * 62 + b"1" + b"}" * 62)
    assert read_json('{"a": 9223372036854775807}') == {"a": 2**63 - 1}


NOT_TOML = {
    "binary": (bytes(range(256)), "not UTF-8"), "utf-16": ("a = 1".encode("utf-16"), "UTF-16"),
    "cut": (b"a = [1,", "not TOML"), "json": (b'{"a": 1}', "not TOML"), "twice": (b"a = 1\na = 2", "not TOML"),
    "deep": (b"a = " + b"[" * 50_000 + b"]" * 50_000, "64 deep"),
    "deep tables": (b"[" + b".".join([b"a"] * 65) + b"]\n", "64 deep"),
    "inf": (b"a = inf", "not finite"), "nan": (b"a = [-nan]", "not finite"), "1e999": (b"a = 1e999", "not finite"),
    "10**400": (b"a = 1" + b"0" * 400, "1,329 bits"), "hex": (b"a = 0x" + b"f" * 5000, "20,000 bits"),
    "10**5000": (b"a = 1" + b"0" * 5000, "not TOML"), "large": (b"#" * (1 << 20), "more than the 262,144"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_TOML)
def test_not_toml(case, tmp_path):
    content, said = NOT_TOML[case]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Malformed, match=said) as error:
        read_toml(tmp_path / "file")
    assert str(error.value).isprintable()


def test_toml_as_it_is(tmp_path):
    (tmp_path / "file").write_bytes(b'\xef\xbb\xbfeps = "8/255"\r\n[a.b]\nc = 1e-4\n')
    assert read_toml(tmp_path / "file") == {"eps": "8/255", "a": {"b": {"c": 1e-4}}}


# --- Tar ---------------------------------------------------------------------------------------------------------


def tar_of(members, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def with_size(tar, size, at=0):
    """Another size in the header of the member at a byte, its checksum mended."""
    header = bytearray(tar[at : at + 512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return tar[:at] + bytes(header) + tar[at + 512 :]


TWO = tar_of({"a/1.jpg": b"x" * 700, "b/2.jpg": b"y" * 300})
LONG = tar_of({"n" * 300: b"x"}, format=tarfile.GNU_FORMAT)
HUGE = b"\x80" + (1 << 60).to_bytes(11, "big")  # GNU's way of large numbers
NEGATIVE = b"\xff" * 12
NOT_TAR = {
    "empty": (b"", "tar"), "text": (b"hello" * 500, "tar"), "gzip": (b"\x1f\x8b" + TWO, "tar"),
    "cut in a member": (TWO[:900], "beyond the file's end"), "cut in a header": (TWO[: 1536 + 100], "no end mark"),
    "no end": (TWO[:2560], "no end mark"),
    "second header damaged": (TWO[:1536] + b"#" * 512 + TWO[2048:], "no end mark at byte 1,536"),
    "beyond the end": (with_size(TWO, b"77777777777\0"), "beyond the file's end"),
    "huge": (with_size(TWO, HUGE), "beyond the file's end"), "negative": (with_size(TWO, NEGATIVE), "."),
    "a name of 2**60 characters": (with_size(LONG, HUGE), "a header of 1,152,921,504,606,84"),
    "names of names": (LONG[:1024] * 3000 + LONG[1024:], "."),
    "no number": (with_size(TWO, b"7x7777777777"), "tar"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_TAR)
def test_not_tar(case, tmp_path):
    content, said = NOT_TAR[case]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Malformed, match=said) as error, open_tar(tmp_path / "file") as (_, members):
        assert [member.name for member in members] == []
    assert str(error.value).isprintable()


def test_tar_as_it_is(tmp_path):
    for options in ({"format": tarfile.GNU_FORMAT}, {"format": tarfile.PAX_FORMAT}):
        content = {"a/1.jpg": b"x" * 700, "n" * 300: b"", "../ä\x1b": b"y" * (3 << 20)}
        (tmp_path / "file").write_bytes(tar_of(content, **options))
        with open_tar(tmp_path / "file") as (tar, members):
            sizes = {member.name: member.size for member in members}
            assert sizes == {name: len(text) for name, text in content.items()}
            assert tar.extractfile("a/1.jpg").read(1 << 20) == b"x" * 700


# --- Arrays ------------------------------------------------------------------------------------------------------


def npy(array, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), **options)
    return out.getvalue()


def described(text, data=b""):
    """An .npy with a description of one's own."""
    text = text.encode().ljust(118 - 10) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


ARRAY = npy(np.arange(6, dtype=np.int64))
NOT_NPY = {
    "empty": b"", "text": b"hello", "cut": ARRAY[:-1], "longer": ARRAY + b"x", "cut in the header": ARRAY[:40],
    "objects": npy(np.array([{"a": 1}, None], object)), "version 9": b"\x93NUMPY\x09\x00" + ARRAY[8:],
    "2**60 numbers": described("{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,), }"),
    "no numbers": described("{'descr': '<i8', 'fortran_order': False, 'shape': (-2, -3), }", b"x" * 48),
    "no shape": described("{'descr': '<i8', 'fortran_order': False, 'shape': 'x', }"),
    "no type": described("{'descr': 'banana', 'fortran_order': False, 'shape': (1,), }"),
    "code": described("__import__('os').abort()"), "deep": described("(" * 100), "token": described("{'descr': '''"),
    "a list of types": described("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", b"x" * 8),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_NPY)
def test_not_an_array(case, tmp_path):
    (tmp_path / "file.npy").write_bytes(NOT_NPY[case])
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        archive.writestr("x.npy", NOT_NPY[case])
    for read in (lambda: read_npy(tmp_path / "file.npy"), lambda: read_npz(tmp_path / "file.npz", ["x"])):
        with pytest.raises(Malformed) as error:
            read()
        assert str(error.value).isprintable()


def npz(**arrays):
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def test_arrays_as_they_are(tmp_path):
    a, b = np.asfortranarray(np.arange(12).reshape(3, 4)), np.array(3.5, np.float32)
    path = tmp_path / "file.npz"
    path.write_bytes(npz(a=a, old=b))
    found = read_npz(path, ["a", ("new", "old")])
    assert all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(found, (a, b), strict=True))
    (tmp_path / "file.npy").write_bytes(npy(a, version=(2, 0)))
    assert np.array_equal(read_npy(tmp_path / "file.npy"), a)


def zip_of(entries, flags=0, method=0):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    content, at = bytearray(out.getvalue()), out.getvalue().find(b"PK\x01\x02")
    if flags or method:
        content[at + 8] |= flags
        content[at + 10] |= method
    return bytes(content)


NOT_NPZ = {
    "empty": (b"", "zip"), "text": (b"hello" * 99, "zip"), "npy": (ARRAY, "zip"),
    "cut": (npz(x=np.arange(9))[:-30], "zip"),
    "without": (npz(y=1), "no x; it has y"), "nothing": (zip_of([]), "no x; it has nothing"),
    "escape": (npz(**{"\x1b[2J": 1}), r"it has \\x1b\[2J"),
    "encrypted": (zip_of([("x.npy", ARRAY)], flags=1), "encrypted"),
    "packed otherwise": (zip_of([("x.npy", ARRAY)], method=99), "."),
    "twice": (zip_of([("x.npy", ARRAY), ("x", ARRAY)]), "two arrays"),
    "damaged": (lambda: damaged(npz(x=np.random.default_rng(0).random(1000))), "."),
    "a bomb": (lambda: npz(x=np.zeros(40_000_000)), "320,000,128 bytes out of"),
}  # fmt: skip


def damaged(content):
    return content[:500] + bytes([content[500] ^ 255]) + content[501:]


@pytest.mark.parametrize("case", NOT_NPZ)
def test_not_an_archive_of_arrays(case, tmp_path):
    content, said = NOT_NPZ[case]
    (tmp_path / "file").write_bytes(content() if callable(content) else content)
    with pytest.raises(Malformed, match=said) as error:
        read_npz(tmp_path / "file", ["x"])
    assert str(error.value).isprintable()


# --- Nobody else reads them -------------------------------------------------------------------------------------------

READS = ("json.load", "json.loads", "tomllib.load", "tomllib.loads", "np.load", "numpy.load", "tarfile.open")
OWN = {
    "robust_zoo/readers.py",
    "robust_zoo/weights/child.py",  # what this process itself hands its child
    "robust_zoo/publishing/rehearsal.py",  # and hears from it
    "robust_zoo/publishing/stranger.py",
}


def test_files_of_anyone_go_through_these_readers():
    root = Path(__file__).parents[1]
    found = set()
    for path in [*(root / "robust_zoo").rglob("*.py"), *(root / "training").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in READS:
                writes = any(k.arg == "mode" and ast.unparse(k.value) == "'w'" for k in node.keywords)
                again = node.args and ast.unparse(node.args[0]).startswith("json.dumps(")  # lists for tuples, no file
                found |= set() if writes or again else {path.relative_to(root).as_posix()}
    assert found == OWN
