"""Where weights live: roots, receipts, crashes between steps, links, locks, disks that refuse. No torch."""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from arrivals import receipt_in

from robust_zoo.errors import StorageError, VerificationFailed
from robust_zoo.files import sha256_of
from robust_zoo.registry.lookup import get
from robust_zoo.weights import cache, lock
from robust_zoo.weights.receipts import Receipt

ROW = replace(get("resnet50_l2_eps3"), sha256="a" * 64)
OLD, NEW = b"old weights" * 1000, b"new weights" * 1000


def receipt(content: bytes) -> Receipt:
    return Receipt(
        name=ROW.name, sha256=hashlib.sha256(content).hexdigest(), size=len(content), state="pinned", source="test",
        source_file=ROW.file, source_sha256="a" * 64, revision=ROW.hub.revision,
    )  # fmt: skip


def put(root: Path, content: bytes) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    file = root / "finished.tmp"
    file.write_bytes(content)
    return cache.store(file, receipt(content), root)


def snapshot(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_installed_is_found(tmp_path):
    assert receipt_in(ROW, tmp_path) is None
    path = put(tmp_path, OLD)
    before = snapshot(tmp_path)
    assert receipt_in(ROW, tmp_path) == cache.read_receipt(tmp_path, ROW.name) == receipt(OLD)
    assert path.read_bytes() == OLD and snapshot(tmp_path) == before  # nothing else was left, nothing changed
    assert set(before) == {path, path.with_suffix(".json")}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"name": 1}', b"\xff", b"{}" * 10])
def test_a_receipt_that_is_none_makes_the_file_worthless(tmp_path, content):
    put(tmp_path, OLD).with_suffix(".json").write_bytes(content)
    assert cache.read_receipt(tmp_path, ROW.name) is None
    with pytest.raises(VerificationFailed, match="receipt") as error:
        receipt_in(ROW, tmp_path)
    assert all(error.value.fields.values()) and error.value.exit_code == 1


@pytest.mark.parametrize("field", ["name", "sha256", "source_sha256"])
def test_a_receipt_of_something_else_is_refused(tmp_path, field):
    path = put(tmp_path, OLD)
    proof = path.with_suffix(".json")
    value = getattr(receipt(OLD), field)
    proof.write_text(proof.read_text().replace(f'"{field}": "{value}"', f'"{field}": "{value[::-1]}x"'))
    with pytest.raises(VerificationFailed):
        receipt_in(ROW, tmp_path)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("before", [None, OLD], ids=["empty", "over another"])
def test_a_crash_at_any_step_of_a_store_is_never_half_believed(tmp_path, monkeypatch, before):
    """The process dies at its nth step: afterwards the entry is the old one, the new one, absent or known as bad."""
    steps = [(Path, "mkdir"), (os, "fsync"), (Path, "chmod"), (Path, "replace"), (cache, "sync_directory")]
    outcomes = []
    for fatal in range(20):
        root = tmp_path / str(fatal)
        if before:
            put(root, before)
        root.mkdir(exist_ok=True)
        file = root / "finished.tmp"
        file.write_bytes(NEW)
        count = iter(range(100))
        with monkeypatch.context() as patch:
            for owner, name in steps:
                patch.setattr(owner, name, _fatal(getattr(owner, name), count, fatal))
            try:
                cache.store(file, receipt(NEW), root)
                finished = True
            except Killed:
                finished = False
        try:
            found = receipt_in(ROW, root)
            outcomes.append(found and found.sha256)
            assert found is None or sha256_of(cache.weights_path(root, ROW.name)) == found.sha256
        except VerificationFailed:
            outcomes.append("bad")
        if finished:
            break
    good = receipt(NEW).sha256
    assert finished and outcomes[-1] == good and len(outcomes) > 5
    assert set(outcomes) == ({None, good} if before is None else {receipt(OLD).sha256, "bad", good})


def _fatal(step, count, fatal):
    def die_or_do(*arguments, **kwargs):
        if next(count) == fatal:
            raise Killed
        return step(*arguments, **kwargs)

    return die_or_do


def test_links_are_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    target = cache.weights_path(tmp_path, ROW.name)
    target.parent.mkdir()
    target.symlink_to(victim)
    target.with_suffix(".json").symlink_to(victim)
    put(tmp_path, NEW)
    assert victim.read_bytes() == b"precious" and not target.is_symlink()
    assert receipt_in(ROW, tmp_path) == receipt(NEW)


def test_a_link_in_place_of_a_lock_is_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{ROW.name}.lock").symlink_to(victim)
    with pytest.raises(StorageError), lock.lock(tmp_path, ROW.name):
        pass
    assert victim.read_bytes() == b"precious"


def test_what_a_link_points_to_must_have_the_right_hash(tmp_path):
    path = put(tmp_path, OLD)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(VerificationFailed, match="damaged"):
        receipt_in(ROW, tmp_path)


def test_damaged_copies_are_set_aside_once(tmp_path):
    for content in (OLD, NEW):
        path = put(tmp_path, content)
        cache.set_aside(tmp_path, ROW.name)
    assert snapshot(tmp_path) == {path.with_suffix(".corrupt"): NEW}
    assert receipt_in(ROW, tmp_path) is None


@contextmanager
def read_only():
    """A directory whose contents this process can read and not change, root or not."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        put(root, OLD)
        for path in (root, root / "weights"):
            path.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # permissions do not bind root
            os.seteuid(65534)
        try:
            yield root
        finally:
            os.seteuid(user)
            for path in (root, root / "weights"):
                path.chmod(0o755)


def test_a_read_only_cache_is_used_and_refuses_politely():
    with read_only() as root:
        found = receipt_in(ROW, root)
        with pytest.raises(StorageError) as no_lock, lock.lock(root, ROW.name):
            pass
        with pytest.raises(StorageError) as no_move:
            cache.set_aside(root, ROW.name)
    assert found == receipt(OLD)
    for error in (no_lock.value, no_move.value):
        assert error.exit_code == 5 and str(root) in error.source and "ROBUST_ZOO_CACHE" in error.next


def test_a_file_that_can_not_be_read_is_not_called_damaged(tmp_path):
    path = put(tmp_path, OLD)
    path.unlink()
    path.symlink_to("/proc/self/mem")  # reading it fails, for root too
    with pytest.raises(OSError, match="Input/output error"):
        receipt_in(ROW, tmp_path)


# --- Roots ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_setting_is_no_setting(tmp_path, monkeypatch, value):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ROBUST_ZOO_CACHE", "")
    monkeypatch.setenv("ROBUST_ZOO_PATH", os.pathsep.join(["", str(tmp_path), ""]))
    assert cache.cache_root(value) == tmp_path / "xdg" / "robust_zoo"
    assert cache.local_directories() == (tmp_path,)


def test_the_argument_goes_before_the_variable(tmp_path, monkeypatch):
    assert cache.cache_root(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROBUST_ZOO_CACHE", "~/variable")
    assert cache.cache_root() == tmp_path / "variable"
    monkeypatch.setenv("ROBUST_ZOO_CACHE", "~no-such-user/variable")
    assert cache.cache_root() == Path("~no-such-user/variable")


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.delenv("ROBUST_ZOO_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/robust_zoo"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"robust_zoo-{os.getuid()}"


def test_without_a_home_there_is_a_private_directory(homeless):
    for _ in range(2):
        with pytest.warns(UserWarning, match="ROBUST_ZOO_CACHE"):
            assert cache.cache_root() == homeless
    assert homeless.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("plant", ["others may write", "a link", "another owner", "a file"])
def test_a_temporary_directory_that_others_made_is_refused(homeless, tmp_path, plant):
    if plant == "a link":
        (tmp_path / "elsewhere").mkdir()
        homeless.symlink_to(tmp_path / "elsewhere")
    elif plant == "a file":
        homeless.write_text("")
    else:
        homeless.mkdir()
        homeless.chmod(0o777 if plant == "others may write" else 0o755)
    if plant == "another owner":
        if os.geteuid():
            pytest.skip("only root can give a directory away")
        os.chown(homeless, 65534, 65534)
    with pytest.raises(StorageError, match="ROBUST_ZOO_CACHE"):
        cache.cache_root()


# --- Locks ---------------------------------------------------------------------------------------------------


@contextmanager
def held_elsewhere(root: Path):
    (root / "downloads").mkdir(parents=True)
    with (root / "downloads" / f"{ROW.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield root / "downloads"


def test_a_lock_is_held_by_one_and_freed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    locks = [lock.lock(tmp_path, name) for name in (ROW.name, ROW.name, "another")]
    with locks[0] as first, locks[1] as second, locks[2] as other:
        assert (first, second, other) == (True, False, True)
    with lock.lock(tmp_path, ROW.name) as again:
        assert again


def test_a_lock_dies_with_its_process(tmp_path):
    code = "import time; from pathlib import Path; from robust_zoo.weights import lock\n"
    code += f"root = Path({str(tmp_path)!r})\n"
    code += f"with lock.lock(root, {ROW.name!r}): print('held', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.communicate()
    with lock.lock(tmp_path, ROW.name) as held:
        assert held


def test_patience_ends_only_where_nothing_moves(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    naps = []

    def nap(seconds, sleep=time.sleep):
        naps.append(seconds)
        if len(naps) < 6:  # the holder still makes progress
            part.write_bytes(b"x" * len(naps))
        sleep(seconds)

    monkeypatch.setattr(lock.time, "sleep", nap)
    with held_elsewhere(tmp_path) as directory:
        part = directory / f"{ROW.file}.{'a' * 12}.part"
        with lock.lock(tmp_path, ROW.name, ROW.file) as held:
            assert not held
    assert len(naps) > 6
    assert caplog.text.count("waiting") == 1 and "without the lock" in caplog.text


@pytest.mark.parametrize("mine", [False, True])
def test_what_grows_of_another_model_is_not_waited_for(tmp_path, monkeypatch, mine):
    """But a conversion of this one is."""
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    naps = []
    (tmp_path / "weights").mkdir()

    def nap(seconds, sleep=time.sleep):
        naps.append(seconds)
        (directory / f"{ROW.name}0.ckpt.part").write_bytes(b"x" * len(naps))
        (directory / f"wide_{ROW.file}.part").write_bytes(b"x" * len(naps))
        if mine and len(naps) < 9:
            (tmp_path / "weights" / f"..{ROW.name}.0f.tmp.1e.tmp").write_bytes(b"x" * len(naps))
        sleep(seconds)

    monkeypatch.setattr(lock.time, "sleep", nap)
    with held_elsewhere(tmp_path) as directory, lock.lock(tmp_path, ROW.name, ROW.file) as held:
        assert not held
    assert (len(naps) >= 9) == mine


def test_waiting_bears_a_part_that_is_completed_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    with held_elsewhere(tmp_path) as directory:
        (directory / "gone.part").symlink_to(directory / "nothing")  # listed, but there is nothing to measure
        with lock.lock(tmp_path, ROW.name) as held:
            assert not held


@pytest.mark.parametrize("errno", [38, 95])  # ENOSYS, EOPNOTSUPP: file systems without locks
def test_without_locks_nothing_is_shared(tmp_path, monkeypatch, errno):
    def no_locks(*_):
        raise OSError(errno, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock.lock(tmp_path, ROW.name) as held:
        assert not held


# --- Tidying -------------------------------------------------------------------------------------------------


def test_what_killed_processes_left_is_swept_after_a_day(tmp_path):
    """Resumable parts stay, and so does what another process may be writing; the machine's clock does not matter."""
    path = put(tmp_path, OLD)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    part = f"{ROW.file}.{'a' * 12}"
    orphans = [path.with_name(f".{ROW.name}.9-ab.tmp"), path.with_name(f"..{ROW.name}.9-ab.tmp.0f.tmp"),
               downloads / f"{part}.9-abcdef12.part"]  # fmt: skip
    others = [path.with_name(".resnet50_l2_eps30.9-ab.tmp"), downloads / f"{part}.part", path]
    young = path.with_name(f".{ROW.name}.7-ab.tmp")
    for file in (*orphans, *others, young):
        file.write_bytes(b"x")
    for file in (*orphans, *others):
        os.utime(file, (time.time() - 90_000,) * 2)
    with lock.lock(tmp_path, ROW.name):
        lock.sweep(tmp_path, ROW.name, ROW.file)
    assert not any(file.exists() for file in orphans) and all(file.exists() for file in (*others, young))


def test_leftovers_are_what_no_one_needs(tmp_path):
    path = put(tmp_path, OLD)
    folder = path.parent
    (tmp_path / "downloads").mkdir()
    rubbish = [folder / n for n in (".a.tmp", "b.corrupt", "unknown.safetensors", "unknown.json", "lone.json")]
    rubbish += [tmp_path / "downloads" / n for n in ("c.part", "c.lock")]
    for name in rubbish:
        name.write_bytes(b"x")
    assert cache.leftovers(tmp_path, {ROW.name, "lone"}) == sorted(rubbish)
    assert cache.cached_names(tmp_path) == [ROW.name, "unknown"]


def test_an_absent_cache_is_an_empty_one(tmp_path):
    assert cache.cached_names(tmp_path / "none") == [] and cache.leftovers(tmp_path / "none", set()) == []
