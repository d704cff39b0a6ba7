"""The failure matrix (support/fault_table.py), second part: processes, disks, caches, and files that are converted."""

import hashlib
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import checkpoints
import hostile
import pytest
from arrivals import CONTENT, FILE, PART, PINNED, REAL, SHA256, UNPINNED, arrives, nothing_stored, receipt_in
from fault_table import command, command_here, fault, refused
from hub import Hub
from verbs import run_to

from robust_zoo import create_model
from robust_zoo.errors import NewHeadWarning, StorageError
from robust_zoo.files import sha256_of
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.weights import cache, lock
from robust_zoo.weights.sources import fetch

pytestmark = pytest.mark.usefixtures("impatient")
ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"
SUPPORT = Path(__file__).parents[1] / "support"


# --- Processes and disks -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A whole checkpoint in upstream's format."""
    path = tmp_path_factory.mktemp("sound") / REAL.file
    checkpoints.save(path, "shufflenet")
    return path.read_bytes()


FOUR = f"""
import os, sys
import warm_child
from robust_zoo.registry.lookup import get
from robust_zoo.weights import contained
from robust_zoo.weights.ensure import ensure
warm_child.import_all()
contained.subprocess = warm_child.Forks()
def one():
    try:
        os.write(1, ensure(get({REAL.name!r}), progress=False).sha256.encode() + b" ")
        os._exit(0)
    finally:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
children = [os.fork() or one() for _ in range(4)]
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@fault("race")
@pytest.mark.parametrize("locks", ["kept", "lying"])
def test_four_processes_at_once(hub, sound, own_machine, locks):
    hub.files[REAL.file] = sound
    lies = "import fcntl; fcntl.flock = lambda *_: None\n" if locks == "lying" else ""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(SUPPORT)])}
    done = subprocess.run(
        [sys.executable, "-c", lies + FOUR], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    assert done.stdout.split() == [sha256_of(cache.weights_path(own_machine, REAL.name))] * 4
    assert hub.sent(REAL.file) == len(sound) or locks == "lying"
    assert not [p for p in own_machine.rglob("*") if p.suffix in (".tmp", ".part", ".corrupt")]


@fault("stale lock")
def test_a_lock_that_is_never_freed(hub, sound, own_machine, monkeypatch, caplog):
    (own_machine / "downloads").mkdir(parents=True)
    held = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
         "print(flush=True); time.sleep(60)", own_machine / "downloads" / f"{REAL.name}.lock"], stdout=subprocess.PIPE,
    )  # fmt: skip
    held.stdout.readline()
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    with lock.lock(own_machine, REAL.name) as mine:
        assert not mine
    held.kill()
    held.communicate()
    assert "waiting for another process" in caplog.text and "without the lock" in caplog.text


def _fetching(directory, size, sha256):
    return (
        "from dataclasses import replace; from robust_zoo.weights.sources import fetch;"
        "from robust_zoo.registry.lookup import get;"
        f"from pathlib import Path; row = replace(get({UNPINNED.name!r}), sha256={sha256!r}, size={size});"
        f"fetch(row, Path({str(directory)!r}), progress=False)"
    )


@fault("kill")
def test_twenty_kills_of_one_download(hub, tmp_path):
    content = random.Random(1).randbytes(16_000_000)
    sha256 = hashlib.sha256(content).hexdigest()
    hub.files[FILE], hub.delay = content, 0.02  # 3 MB a second
    script, dice, kills = _fetching(tmp_path, len(content), sha256), random.Random(2), 0
    part = tmp_path / f"{FILE}.{sha256[:12]}.part"
    while kills < 20:
        child = subprocess.Popen([sys.executable, "-c", script])
        before = part.stat().st_size if part.exists() else 0
        deadline = time.monotonic() + 20
        while (part.stat().st_size if part.exists() else 0) == before and time.monotonic() < deadline:
            time.sleep(0.01)  # it moves: from here on anything may be going on
        time.sleep(dice.uniform(0, 0.2))
        assert child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        kills += 1
    hub.delay = 0
    row = replace(PINNED, sha256=sha256, size=len(content))
    assert fetch(row, tmp_path, progress=False).path.read_bytes() == content
    assert hub.sent(FILE) <= 1.1 * len(content)


DYING = """
import os, signal, sys
from pathlib import Path
from robust_zoo import files
from robust_zoo.weights import cache
steps = iter(range(int(sys.argv[1]), -1, -1))
def mortal(step):
    def do(*arguments, **kwargs):
        if next(steps, 1) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **kwargs)
    return do
for owner, name in ((os, "write"), (os, "fsync"), (os, "rename"), (os, "replace"), (Path, "replace"), (Path, "chmod"),
                    (Path, "mkdir"), (Path, "unlink"), (cache, "sync_directory"), (files, "sync_directory")):
    setattr(owner, name, mortal(getattr(owner, name)))
"""


@fault("kill")
def test_a_kill_between_any_two_steps_of_a_store(stored, sound, own_machine):
    """SIGKILL before the nth write, fsync, rename: what is there afterwards is right or absent, and healed at once."""
    path, whole = stored, stored.read_bytes()
    storing = f"{DYING}\nfrom robust_zoo.weights.cache import store, read_receipt\n"
    storing += f"root = Path({str(own_machine)!r})\n"
    storing += f"receipt = read_receipt(Path({str(own_machine.parent)!r}) / 'kept', {REAL.name!r})\n"
    storing += "store(root / 'finished.tmp', receipt, root)"
    kept = own_machine.parent / "kept" / "weights"
    kept.mkdir(parents=True)
    (kept / path.with_suffix(".json").name).write_bytes(path.with_suffix(".json").read_bytes())
    killed = 0
    for step in range(30):
        for left in path.parent.iterdir():
            left.unlink()
        (own_machine / "finished.tmp").write_bytes(whole)
        code = subprocess.run([sys.executable, "-c", storing, str(step)], capture_output=True).returncode
        found = path.read_bytes() if path.exists() else None
        assert found in (None, whole)
        if found:
            assert receipt_in(REAL, own_machine).source_sha256 == hashlib.sha256(sound).hexdigest()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
    assert code == 0 and killed >= 4


@fault("disk")
def test_room_is_checked_before(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr("robust_zoo.weights.transport.shutil.disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="not enough space") as error:
        fetch(PINNED, tmp_path, progress=False)
    assert "2,400,000" in error.value.expected and "2,000,000" in error.value.actual and error.value.exit_code == 5
    assert not (tmp_path / PART).exists()


@fault("disk")
def test_a_disk_that_fills(hub, own_machine):
    hub.files[FILE] = CONTENT

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))

    said = refused(5, "download", UNPINNED.name, "--quiet", preexec_fn=limit, fields=4)
    assert "ROBUST_ZOO_CACHE" in said
    kept = (own_machine / "downloads" / PART).stat().st_size
    assert 600_000 < kept <= 700_000
    sent = hub.sent(FILE)
    arrives(replace(PINNED, sha256=SHA256), own_machine / "downloads")
    assert hub.sent(FILE) - sent == len(CONTENT) - kept


@fault("read-only")
@pytest.mark.parametrize("place", ["/proc/nope", "a file"])
def test_a_cache_that_can_not_be_written(hub, tmp_path, place):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "cache" if place == "a file" else place
    said = refused(5, "download", UNPINNED.name, "--quiet", "--cache-dir", root, fields=4)
    assert "ROBUST_ZOO_CACHE" in said and str(root) in said
    assert command("verify", ROBUST, "--cache-dir", root).returncode == 0


@fault("no home")
def test_without_a_home(tmp_path):
    names = ("XDG_CACHE_HOME", "ROBUST_ZOO_CACHE", "HF_HOME", "ROBUST_ZOO_PATH", "HF_ENDPOINT")
    environment = os.environ | dict.fromkeys(names, "") | {"TMPDIR": str(tmp_path / "tmp")}
    del environment["HOME"]
    (tmp_path / "tmp").mkdir()
    (tmp_path / "cwd").mkdir()
    code = "import pwd; pwd.getpwuid = lambda uid: {}[uid]  # a user whom the system does not know\n"
    code += "from robust_zoo.cli import main; main(['cache', 'path'])"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path / "cwd", capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stdout.startswith(str(tmp_path / "tmp"))
    assert "no home directory" in result.stderr and not list((tmp_path / "cwd").iterdir())


# --- Files in the cache --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def once(sound, tmp_path_factory):
    """A cache into which the checkpoint was downloaded."""
    root = tmp_path_factory.mktemp("once")
    with Hub({REAL.file: sound}) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        run_to("download", REAL.name, "--quiet", "--cache-dir", root)
    return root


@pytest.fixture
def stored(hub, sound, once, own_machine):
    """A cached checkpoint of one's own; returns its file. The hub has it still."""
    hub.files[REAL.file] = sound
    shutil.copytree(once, own_machine)
    return cache.weights_path(own_machine, REAL.name)


@fault("cache")
def test_a_damaged_cache_is_refused_offline(stored):
    whole = stored.read_bytes()
    renamed = whole.replace(b"shuffle", b"ehuffle")
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b"", renamed):
        stored.write_bytes(content)
        refused(1, "verify", REAL.name)
        refused(1, "download", REAL.name, "--offline")


@fault("links", "cache")
def test_links_are_hashed_and_never_written_through_and_the_cache_heals(stored, tmp_path):
    victim, whole = tmp_path / "victim", stored.read_bytes()
    victim.write_bytes(b"precious")
    stored.unlink()
    stored.symlink_to(victim)
    refused(1, "verify", REAL.name)
    stored.with_suffix(".json").unlink()
    stored.with_suffix(".json").symlink_to(victim)
    run_to("download", REAL.name, "--quiet")
    assert victim.read_bytes() == b"precious" and stored.with_suffix(".corrupt").is_symlink()
    assert stored.read_bytes() == whole and not stored.is_symlink() and not stored.with_suffix(".json").is_symlink()


@fault("other model")
def test_another_models_weights_under_a_hash_that_fits(stored, own_machine):
    """The attacker rewrote file and receipt together; only what the file says of itself gives it away."""
    theirs = cache.weights_path(own_machine, UNPINNED.name)
    theirs.write_bytes(stored.read_bytes())
    receipt = stored.with_suffix(".json").read_text().replace(REAL.name, UNPINNED.name)
    theirs.with_suffix(".json").write_text(receipt)
    said = refused(1, "verify", UNPINNED.name)
    assert f"of name {REAL.name}" in said
    assert command("verify", REAL.name).returncode == 0


@fault("other model")
def test_another_models_file_at_the_source(hub, sound, own_machine):
    """eps 3's file under eps 0's name, with a hash that fits: what the row has pinned is not it."""
    pinned = get("resnet18_l2_eps3")
    hub.files[pinned.file] = sound
    said = refused(1, "download", pinned.name, "--quiet")
    assert pinned.sha256 in said and nothing_stored(own_machine)


@fault("names")
@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "http://x/y", "resnet50_l2_eps3/../x"])
def test_what_is_no_name(name, own_machine):
    assert "closest" in refused(4, "download", name, fields=4)
    assert not own_machine.exists()


@fault("file system")
def test_names_differ_on_every_file_system():
    files = [*list_models(), *(get(name).file for name in list_models())]
    assert len({f.casefold() for f in files}) == len(set(files))
    for name in files:
        assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name.casefold()) and name.isascii()


# --- Files that are converted --------------------------------------------------------------------------------


def planted_files(outside):
    """(exit code, contents, what is said) of files that must not be converted."""
    network = dict(checkpoints.network("shufflenet").state_dict())

    def edited(**changes):
        state = {key: value for key, value in (network | changes).items() if value is not None}
        return hostile.saved(checkpoints.checkpoint(state))

    weight = network["conv5.0.weight"]
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return {
        "archive": (6, hostile.zipped({f"../../../../../../../..{outside}": b"x"}), ""),
        "huge header": (6, struct.pack("<Q", 1 << 60) + b"{}", ""),
        "no data": (6, struct.pack("<Q", len(text)) + text, ""),
        "nan": (1, edited(**{"conv5.0.weight": weight * float("nan")}), "NaN"),
        "missing": (1, edited(**{"conv5.0.weight": None}), "missing 1: conv5.0.weight"),
    }


@fault("archive", "safetensors", "safetensors", "tensors", "tensors")
def test_files_that_are_not_sound_checkpoints(tmp_path):
    outside = tmp_path / "outside"
    files = planted_files(outside)
    for name, (_, content, _) in files.items():
        (tmp_path / f"{name}.ckpt").write_bytes(content)

    def convert(name):
        code, _, cause = files[name]
        said = refused(code, "convert", tmp_path / f"{name}.ckpt", "--name", REAL.name, "-o", tmp_path / f"{name}.out",
                       run=command_here)  # fmt: skip
        assert cause in said and f"{name}.ckpt" in said

    for name in files:
        convert(name)
    assert not outside.exists() and not list(tmp_path.glob("*.out*"))


@fault("classes")
def test_another_number_of_classes_is_said():
    with pytest.warns(NewHeadWarning, match="robustness figures of the checkpoint do not apply"):
        create_model(ROBUST, num_classes=3)
