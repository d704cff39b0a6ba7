"""One process at a time: filelock's primitive on files that we open, never through a link, never truncated."""

import errno
import os

import filelock
import pytest

from robust_zoo.errors import StorageError, UsageError
from robust_zoo.locks import taken
from robust_zoo.training import run_lock
from robust_zoo.weights import lock


def test_a_lock_is_one_files_until_it_is_closed(tmp_path):
    path = tmp_path / "lock"
    path.write_bytes(b"kept")
    with path.open("r+b") as first, path.open("rb") as second:
        assert (taken(first), taken(second), taken(first)) == (True, False, True)
        first.close()
        assert taken(second) is True
    assert path.read_bytes() == b"kept"


def test_it_is_the_lock_that_others_take(tmp_path):
    """filelock's own class, as huggingface_hub and torch use it: whoever comes second sees the first."""
    path = tmp_path / "lock"
    path.touch()
    theirs = filelock.FileLock(path, blocking=False)
    with path.open("r+b") as ours:
        with theirs:
            assert taken(ours) is False
        assert taken(ours) is True
        with pytest.raises(filelock.Timeout):
            theirs.acquire()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_where_there_are_no_locks_nothing_is_held(number, tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(filelock, "lock_descriptor", no_locks)
    with (tmp_path / "lock").open("wb") as file:
        assert taken(file) is None
    with lock.lock(tmp_path / "cache", "name") as held:
        assert not held
    (tmp_path / "run").mkdir()
    with run_lock.lock(tmp_path / "run"), run_lock.lock(tmp_path / "run"):
        pass


def test_nothing_but_our_own_open_touches_the_file(tmp_path, monkeypatch):
    path = tmp_path / "downloads" / "name.lock"
    path.parent.mkdir()
    path.write_bytes(b"kept")
    opened = []

    def recorded(file, flags, *more, open=os.open, **named):
        opened.append((os.fspath(file), flags))
        return open(file, flags, *more, **named)

    monkeypatch.setattr(os, "open", recorded)
    with lock.lock(tmp_path, "name") as held:
        assert held
    [(found, flags)] = opened
    assert found == str(path) and flags & os.O_NOFOLLOW and not flags & os.O_TRUNC
    assert path.read_bytes() == b"kept" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("of", ["weights", "run"])
def test_a_link_is_not_followed_where_the_system_would(of, tmp_path, monkeypatch):
    """Windows has no O_NOFOLLOW."""
    monkeypatch.delattr(os, "O_NOFOLLOW")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for path in (tmp_path / "downloads" / "name.lock", tmp_path / "lock"):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(victim)
    held = lock.lock(tmp_path, "name") if of == "weights" else run_lock.lock(tmp_path)
    with pytest.raises((StorageError, UsageError)) as error, held:
        pass
    assert victim.read_bytes() == b"precious" and "link" in error.value.actual


def test_a_holder_is_named_where_the_file_can_be_read(tmp_path):
    """On Windows a file whose first byte is locked cannot."""

    class Locked:
        def read(self, _):
            raise PermissionError(13, "another process has locked a portion of the file")

    with run_lock.lock(tmp_path), pytest.raises(UsageError) as error, run_lock.lock(tmp_path):
        pass
    assert error.value.actual.startswith(f"held by process {os.getpid()} on ")
    assert run_lock._holder(Locked()) == ""
