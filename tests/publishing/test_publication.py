"""From a folder to the hub and back, against a stand-in; and each way in which the hub may refuse."""

import json
import subprocess
import sys
import tomllib
from dataclasses import replace

import pytest
import timm
import torch
from publications import SECOND, WIDE, folder_for, logits_of, random_weights
from repositories import TOKEN, Repository

from robust_zoo.errors import Refused, Unavailable, UsageError, VerificationFailed
from robust_zoo.factory import create_model
from robust_zoo.publishing import access, remote
from robust_zoo.publishing.folder import folder_of, write
from robust_zoo.publishing.publication import NEW, publish, states_of
from robust_zoo.publishing.refusals import STATUSES
from robust_zoo.registry.lookup import get
from robust_zoo.registry.published import FILE, Published
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.published import header_digest

BUNDLED = "resnet18_x0_25_cifar10_l2_eps0_5"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # httpx2, of huggingface_hub


@pytest.fixture
def small(tmp_path):
    """The folder of a bundled checkpoint, written."""
    row = get(BUNDLED)
    folder = folder_for(row, ensure(row))
    write(folder, tmp_path / "out")
    return folder


def sent(hub, folder, out, name=None, **options):
    repository = remote.Repository(name or f"ORG/{folder.checkpoint.name}", hub.endpoint, folder.checkpoint.name)
    return publish(folder, out, repository, **{"private": True, "propose": False} | options)


@pytest.mark.parametrize("row", [WIDE, SECOND], ids=lambda row: row.name)
def test_what_was_published_comes_back(hub, tmp_path, row):
    """Through timm, and through robust_zoo by the lines of published.toml."""
    weights = random_weights(row, tmp_path)
    folder = folder_for(row, weights)
    write(folder, tmp_path / "out")
    outcome = sent(hub, folder, tmp_path / "out")
    assert set(outcome.states.values()) == {NEW} and not outcome.unchanged
    repo = f"ORG/{row.name}"
    assert hub.files_of(repo) == {FILE: bytes(weights.content)} | dict(folder.texts)
    assert outcome.commit.revision == hub.repos[repo].head and hub.repos[repo].private
    expected = logits_of(create_model(row, weights=weights), row)
    assert expected.std() > 1e-2
    for name in (f"hf-hub:{repo}", f"hf-hub:{repo}@{outcome.commit.revision}"):
        assert torch.equal(logits_of(timm.create_model(name, pretrained=True), row), expected)
    lines = Published(repo, outcome.commit.revision, weights.sha256, len(weights.content), header_digest(row))
    again = row.as_published(Published.parse(row.name, tomllib.loads("\n".join(lines.lines(row.name)))[row.name]))
    assert ensure(again).state == "pinned"
    assert torch.equal(logits_of(create_model(again), row), expected)
    other = timm.create_model(f"hf-hub:{repo}", pretrained=True, num_classes=7)
    assert other.get_classifier().weight.shape[0] == 7
    assert tuple(other.pretrained_cfg["mean"]) == row.preprocessing.mean


def test_a_second_publication_changes_nothing(hub, small, tmp_path):
    first = sent(hub, small, tmp_path / "out")
    before, hub.steps = dict(hub.repos[f"ORG/{BUNDLED}"].commits), []
    second = sent(hub, small, tmp_path / "out")
    assert second.unchanged and second.commit.revision == first.commit.revision
    assert hub.repos[f"ORG/{BUNDLED}"].commits == before and hub.steps == ["info", "paths-info"]


def test_only_what_changed_is_sent(hub, small, tmp_path):
    sent(hub, small, tmp_path / "out")
    changed = replace(small, texts={**small.texts, "README.md": b"---\nlicense: mit\n---\n\n# Another card\n"})
    write(changed, tmp_path / "out")
    hub.steps = []
    outcome = sent(hub, changed, tmp_path / "out")
    assert {name for name, state in outcome.states.items() if state != "same"} == {"README.md"}
    assert "put" not in hub.steps and hub.files_of(f"ORG/{BUNDLED}")["README.md"].endswith(b"Another card\n")


def test_files_of_others_stay(hub, small, tmp_path):
    hub.repos[f"ORG/{BUNDLED}"] = Repository(False, {})
    hub.repos[f"ORG/{BUNDLED}"].add({"notes.txt": b"theirs", "README.md": b"old"})
    outcome = sent(hub, small, tmp_path / "out")
    assert outcome.states["README.md"] == "changed" and not outcome.commit.private
    assert hub.files_of(f"ORG/{BUNDLED}")["notes.txt"] == b"theirs"


def test_a_pull_request_leaves_the_branch_as_it_was(hub, small, tmp_path):
    outcome = sent(hub, small, tmp_path / "out", propose=True)
    repo = hub.repos[f"ORG/{BUNDLED}"]
    assert outcome.commit.pull_request.endswith("/discussions/1") and hub.files_of(f"ORG/{BUNDLED}") == {}
    assert list(repo.proposed) == [outcome.commit.revision]


def test_git_hashes_are_gits():
    content = b"what is up, doc?"
    assert remote.git_hash(content) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"  # from "Git Internals", Pro Git


@pytest.mark.parametrize(
    ("step", "kind", "error", "says"),
    [
        ("info", "401", UsageError, "does not accept this token"),
        ("create", "401", UsageError, "does not accept this token"),
        ("create", "403", UsageError, "may not write to ORG/"),
        ("create", "409", Unavailable, "was made, and is not there"),
        ("preupload", "403", UsageError, "may not write to ORG/"),
        ("preupload", "404", UsageError, "there is no ORG/"),
        ("batch", "403", UsageError, "may not write to ORG/"),
        ("put", "413", Unavailable, "larger than the hub"),
        ("put", "500", Unavailable, "did not say that it is done"),
        ("put", "cut", Unavailable, "the connection to the hub failed"),
        ("verify", "404", UsageError, "there is no ORG/"),
        ("commit", "401", UsageError, "does not accept this token"),
        ("commit", "409", Unavailable, "being changed, or moved"),
        ("commit", "412", Unavailable, "someone else published to"),
        ("commit", "413", Unavailable, "larger than the hub"),
        ("commit", "429", Unavailable, "asks for patience"),
        ("commit", "503", Unavailable, "did not say that it is done"),
    ],
)
def test_a_refusal_is_an_error_and_no_file_changes(hub, small, tmp_path, step, kind, error, says):
    hub.fail(step, kind, times=9)
    with pytest.raises(error, match=says) as raised:
        sent(hub, small, tmp_path / "out")
    assert all(raised.value.fields.values()) and TOKEN not in str(raised.value)
    assert type(raised.value) is error and f"ORG/{BUNDLED}" in raised.value.source
    if kind.isdigit() and error is not Unavailable:
        assert f"status {kind}" in raised.value.actual
    repo = hub.repos.get(f"ORG/{BUNDLED}")
    assert repo is None or hub.files_of(f"ORG/{BUNDLED}") == {}
    hub.faults.clear()
    assert not sent(hub, small, tmp_path / "out").unchanged  # "the same command again" is true
    assert sorted(hub.files_of(f"ORG/{BUNDLED}")) == sorted(small.names)


def test_every_status_has_its_case():
    assert STATUSES.keys() == {401, 403, 404, 409, 412, 413, 429}


def test_someone_else_was_first(hub, small, tmp_path, monkeypatch):
    """Between the look and the commit, really: the hub has another head."""
    repo, look = f"ORG/{BUNDLED}", remote.Repository.look

    def slow(self, files):
        found = look(self, files)
        if found:
            hub.repos[repo].add({"theirs.txt": b"first"})
        return found

    monkeypatch.setattr(remote.Repository, "look", slow)
    with pytest.raises(Unavailable, match="someone else published"):
        sent(hub, small, tmp_path / "out")
    assert hub.files_of(repo) == {"theirs.txt": b"first"}


def test_a_card_that_the_hub_refuses(hub, small, tmp_path):
    card = {"README.md": b'---\nlicense: "mine alone"\n---\n'}
    folder = folder_of(small.checkpoint, small.weights, json.loads(small.texts["config.json"]), card)
    write(folder, tmp_path / "out")
    with pytest.raises(Refused, match="refuses the head of the card") as error:
        sent(hub, folder, tmp_path / "out")
    assert "must be one of" in error.value.actual and all(error.value.fields.values())
    assert "put" not in hub.steps and hub.files_of(f"ORG/{BUNDLED}") == {}


def test_a_file_that_changed_on_the_disk_is_not_sent(hub, small, tmp_path):
    (tmp_path / "out" / FILE).write_bytes(b"other")
    with pytest.raises(VerificationFailed, match="was changed since it was checked") as error:
        sent(hub, small, tmp_path / "out")
    assert all(error.value.fields.values()) and "put" not in hub.steps


def test_other_bytes_at_the_hub_are_noticed(hub, small, tmp_path):
    hub.declared[FILE] = "0" * 64
    with pytest.raises(VerificationFailed, match=r"the hub has another model\.safetensors") as error:
        sent(hub, small, tmp_path / "out")
    assert small.weights.sha256 in error.value.expected and "do not register this commit" in error.value.next


def test_a_config_that_reads_back_otherwise_is_noticed(hub, small, tmp_path, monkeypatch):
    monkeypatch.setattr(remote.Repository, "_read", staticmethod(lambda url: "1" * 64))
    with pytest.raises(VerificationFailed, match=r"the hub has another config\.json"):
        sent(hub, small, tmp_path / "out")


_SEND = """
import sys
from pathlib import Path
from robust_zoo.publishing.folder import Folder
from robust_zoo.publishing.publication import publish
from robust_zoo.publishing.remote import Repository
from robust_zoo.registry.lookup import get
from robust_zoo.registry.published import FILE, Published
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.published import header_digest
out, name, endpoint = Path(sys.argv[1]), *sys.argv[2:]
row = get(name)
texts = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".safetensors"}
repository = Repository("ORG/" + name, endpoint, name)
sys.stdin.readline()
publish(Folder(row, ensure(row), texts), out, repository, private=True, propose=False)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("step", ["verify", "commit"])
def test_killed_on_the_way_the_repository_is_as_it_was(hub, small, tmp_path, step):
    """By the hub itself, when the large file is there and the commit is not."""
    hub.repos[f"ORG/{BUNDLED}"] = Repository(True, {})
    head = hub.repos[f"ORG/{BUNDLED}"].add({"README.md": b"before"})
    hub.fail(step, "kill")
    command = [sys.executable, "-c", _SEND, tmp_path / "out", BUNDLED, hub.endpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        hub.victim = process.pid
        process.stdin.write("go\n")
        process.stdin.flush()
    assert process.returncode == -9
    assert hub.stored and hub.repos[f"ORG/{BUNDLED}"].head == head
    assert hub.files_of(f"ORG/{BUNDLED}") == {"README.md": b"before"}
    hub.steps = []
    assert sent(hub, small, tmp_path / "out").states["README.md"] == "changed"
    assert "put" not in hub.steps  # what had arrived is not sent twice


def test_states_without_a_repository(small):
    assert set(states_of(small, None).values()) == {NEW}


@pytest.mark.parametrize(
    ("namespace", "role", "says"),
    [
        ("me", "write", ""),
        ("ORG", "write", ""),
        ("ORG", "fineGrained", ""),
        ("OTHERS", "write", "--namespace me or ORG"),
        ("READERS", "write", "--namespace me or ORG"),
        ("ORG", "read", "a token that may write"),
    ],
)
def test_who_may_write(hub, namespace, role, says):
    hub.role = role
    if not says:
        return access.require_writer(namespace, hub.endpoint)
    with pytest.raises(UsageError, match=f"may not write to {namespace}") as error:
        access.require_writer(namespace, hub.endpoint)
    assert error.value.expected == says and all(getattr(error.value, field) for field in ("source", "actual", "next"))


def test_a_token_that_is_none(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_anotherother")
    with pytest.raises(UsageError, match="does not accept this token") as error:
        access.require_writer("ORG", hub.endpoint)
    assert "renew or remove the token of HF_TOKEN" in error.value.next and "hf_another" not in str(error.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match="needs a token"):
        access.require_token()


def test_a_token_is_not_told_over_plain_http(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://name:secret@a.mirror/hub")
    with pytest.raises(UsageError, match="over plain http") as error:
        access.endpoint()
    assert "secret" not in str(error.value)
    for given in ("", "https://huggingface.co/"):
        monkeypatch.setenv("HF_ENDPOINT", given)
        assert access.endpoint() == "https://huggingface.co"
