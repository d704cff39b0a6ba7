"""An untrusted file in memory: hashed as it is read, given back as it is read again."""

import hashlib
import io
import mmap
import os
import zipfile
from contextlib import ExitStack

import pytest
import torch
from hostile import saved

from robust_zoo.errors import Refused
from robust_zoo.weights import content, convert_worker


@pytest.fixture(params=["memory", "temporary file"])
def held(request, tmp_path, monkeypatch):
    """Of bytes: the Content of a file that has them, on systems with and without memory that is a file."""
    if request.param == "temporary file":
        monkeypatch.delattr(os, "memfd_create", raising=False)

    with ExitStack() as opened:

        def read(data, **limit):
            (tmp_path / "a").write_bytes(data)
            found = content.read_once(tmp_path / "a", **limit)
            opened.enter_context(found.file)
            return found

        yield read


def test_what_is_read_is_what_is_hashed(held):
    data = os.urandom(3_000_001)
    found = held(data)
    assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert found.start(100) == data[:100] and found.mapped()[:] == data
    assert found.drained().read() == data


def test_more_than_the_limit_is_not_taken(held):
    assert held(b"12345", limit=5).size == 5
    with pytest.raises(MemoryError):
        held(b"123456", limit=5)


@pytest.mark.skipif(not hasattr(mmap, "MADV_REMOVE"), reason="no system call for it")
def test_what_is_read_again_makes_room(held):
    """And is never read a third time: zeros lie there by then."""
    data = os.urandom(40 << 20)
    found = held(data)
    used = lambda: os.fstat(found.file.fileno()).st_blocks * 512  # noqa: E731
    before, file = used(), found.drained()
    for size in (1, 1 << 16, 70_001, 100, 30 << 20):  # from pages' middles too
        begin = file.tell()
        assert file.read(size) == data[begin : begin + size]
    begin = file.tell()
    assert file.read(len(data)) == data[begin:]
    assert before >= len(data) and used() < 1 << 20
    file.seek(1 << 20)
    with pytest.raises(OSError, match="one place"):
        file.read(10_000)


def test_a_file_of_many_tensors_is_read_once(tmp_path):
    """Its directory is long enough to be given back, and what lies before it is read after it."""
    state = {f"{'a long name of a layer ' * 4}{i}": torch.full((3,), float(i)) for i in range(900)}
    path = tmp_path / f"{'a long name ' * 8}.pth"  # which stands before each entry's
    torch.save({"model": state}, path)
    found = convert_worker.load_content(path)["model"]
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_storage_that_is_not_as_long_as_the_pickle_says_is_refused(tmp_path):
    """Its tensor would take what lies behind it in the archive."""
    source = zipfile.ZipFile(io.BytesIO(saved({"model": {"a": torch.ones(64), "b": torch.ones(64)}})))
    for change in (lambda data: data[:-4], lambda data: data + b"\0" * 4, lambda data: data):
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            for name in source.namelist():
                data = source.read(name)
                archive.writestr(name, change(data) if name.endswith("data/0") else data)
        if len(change(b"12345")) == 5:  # the control
            assert convert_worker.load_content(tmp_path / "a.pth")["model"]["a"].sum() == 64
        else:
            with pytest.raises(Refused, match="unsafe or malformed"):
                convert_worker.load_content(tmp_path / "a.pth")
