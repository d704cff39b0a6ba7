"""`robust-zoo publish`: what it prints, refuses and leaves, against the stand-in hub."""

import json
import tomllib
from dataclasses import asdict

import pytest
import timm
import torch
from publications import logits_of
from repositories import TOKEN
from verbs import run, run_to

from robust_zoo import home
from robust_zoo.factory import create_model
from robust_zoo.publishing import rehearsal
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.published import FILE, Published
from robust_zoo.weights.safetensors_file import write_safetensors

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # httpx2, of huggingface_hub
BUNDLED = "resnet18_x0_25_cifar10_l2_eps0_5"


@pytest.fixture(autouse=True)
def rehearsed(monkeypatch, hub):
    """The folders that were rehearsed, which test_folder.py does; no repository is there before its rehearsal."""
    seen = []

    def rehearse(folder, out):
        assert (out / FILE).is_file() and (folder.checkpoint.name in seen or hub.repos == {})
        seen.append(folder.checkpoint.name)

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    return seen


def refused(code, *arguments):
    """It ends with that exit code and an error of five fields, but perhaps for the model; returns stderr."""
    result = run("publish", *arguments)
    assert result.exit_code == code, result.output
    for field in ("source", "expected", "actual", "next"):
        assert f"\n  {field}:" in result.stderr, result.stderr
    assert TOKEN not in result.output
    return result.stderr


@pytest.fixture
def mine(tmp_path):
    """A file of a user's own, of a network that timm has and no row does."""
    header = {
        "name": "mine_cifar10_l2_eps0_5", "architecture": "resnet10t", "dataset": "cifar10", "norm": "l2", "eps": "0.5",
        "training": "by hand", "preprocessing": json.dumps(asdict(get(BUNDLED).preprocessing)),
    }  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, timm.create_model("resnet10t", num_classes=10).state_dict(), header)
    return path


def test_a_dry_run_makes_the_folder_and_asks_no_one(hub, tmp_path):
    result = run_to("publish", BUNDLED, "--namespace", "ORG", "--dry-run", "--offline", "--out", tmp_path / "out")
    out = tmp_path / "out" / BUNDLED
    assert hub.requests == [] and hub.steps == []
    assert result.stdout.startswith(f"ORG/{BUNDLED}\n") and get(BUNDLED).sha256 in result.stdout
    assert result.stdout.count("not compared: offline") == 5
    assert sorted(path.name for path in out.iterdir()) == ["LICENSE", "README.md", "README.svg", "config.json", FILE]
    card = (out / "README.md").read_text()
    assert "README.svg" in card and f'timm.create_model("hf-hub:ORG/{BUNDLED}", pretrained=True)' in card
    assert 'library_name: "robust-zoo"' in card and "register_with_timm()" in card


def test_published_and_then_left_alone(hub, tmp_path):
    before = run_to("publish", BUNDLED, "--namespace", "ORG", "--dry-run")
    assert before.stdout.count("  new\n") == 5 and hub.repos == {}
    result = run_to("publish", BUNDLED, "--namespace", "ORG")
    repo = f"ORG/{BUNDLED}"
    row = Published.parse(BUNDLED, tomllib.loads(result.stdout)[BUNDLED])
    assert row == Published(repo, hub.repos[repo].head, get(BUNDLED).sha256, get(BUNDLED).size)
    assert "published, commit" in result.stderr and "private" in result.stderr
    assert f'register_with_timm(); timm.create_model("hf-hub:{repo}"' in result.stderr  # which timm has not
    assert run_to("publish", BUNDLED, "--namespace", "ORG", "--dry-run").stdout.count("  same\n") == 5
    again = run_to("publish", BUNDLED, "--namespace", "ORG", "--public")
    assert again.stdout == result.stdout and "has all of this already" in again.stderr
    assert f"it was private before and stays so: {hub.endpoint}/{repo}/settings" in again.stderr
    assert len(hub.repos[repo].commits) == 2  # the one it was made with, and ours


def test_a_public_one_in_json(hub):
    result = run_to("publish", BUNDLED, "--namespace", "ORG", "--public", "--json", "--quiet")
    [told] = json.loads(result.stdout)
    assert not hub.repos[told["repo"]].private and told["private"] is False and told["unchanged"] is False
    assert {file["file"]: file["state"] for file in told["files"]}[FILE] == "new"
    assert told["revision"] == hub.repos[told["repo"]].head and "%" not in result.stderr


def test_a_pull_request(hub, rehearsed):
    result = run_to("publish", BUNDLED, "--namespace", "ORG", "--create-pr")
    assert result.stdout == "" and "proposed as" in result.stderr and hub.files_of(f"ORG/{BUNDLED}") == {}
    assert rehearsed == [BUNDLED]


def test_a_file_of_ones_own(hub, mine, tmp_path):
    assert "say it: --licence LICENCE" in refused(2, mine, "--namespace", "me")
    result = run_to("publish", mine, "--namespace", "me", "--licence", "mit")
    assert result.stdout == "" and '\ntimm.create_model("hf-hub:me/mine_cifar10_l2_eps0_5"' in result.stderr
    repo = "me/mine_cifar10_l2_eps0_5"
    files = hub.files_of(repo)
    assert files[FILE] == mine.read_bytes()
    assert str(tmp_path).encode() not in b"".join(content for name, content in files.items() if name != FILE)
    card = files["README.md"].decode()
    assert 'library_name: "timm"' in card and 'license: "mit"' in card and "robust_zoo.create_model(" not in card
    ours, theirs = create_model(mine), timm.create_model(f"hf-hub:{repo}", pretrained=True)
    assert torch.equal(logits_of(theirs, get(BUNDLED)), logits_of(ours, get(BUNDLED)))
    assert "is said already" in refused(2, BUNDLED, "--namespace", "me", "--licence", "mit")


def test_where_is_asked_before_any_work(hub, monkeypatch):
    assert "in whose name?" in refused(2, BUNDLED)
    assert "is no user or organisation" in refused(2, BUNDLED, "--namespace", "a/b")
    monkeypatch.setattr(home, "ORGANISATION", "ORG")
    assert run_to("publish", BUNDLED, "--dry-run", "--offline").stdout.startswith(f"ORG/{BUNDLED}\n")
    assert hub.requests == []


def test_what_is_refused_before_any_socket(hub, monkeypatch):
    unknown = next(name for name in list_models() if get(name).licence == "unknown")
    assert "cannot be passed on" in refused(2, unknown, "--namespace", "ORG")
    assert "nothing can be published offline" in refused(3, BUNDLED, "--namespace", "ORG", "--offline")
    assert "no checkpoint" in run("publish", "resnet50_l2_*7", "--namespace", "ORG").stderr
    monkeypatch.delenv("HF_TOKEN")
    assert "needs a token" in refused(2, BUNDLED, "--namespace", "ORG")
    assert hub.requests == []


@pytest.mark.parametrize(("state", "next"), [("first-seen", "robust-zoo pin"), ("vouched", "--cache-dir NEW")])
def test_weights_without_a_public_hash_stay(hub, monkeypatch, state, next):
    from dataclasses import replace

    from robust_zoo.weights import ensure

    real = ensure.ensure
    monkeypatch.setattr(ensure, "ensure", lambda *args, **kwargs: replace(real(*args, **kwargs), state=state))
    said = refused(2, BUNDLED, "--namespace", "ORG")
    assert f"is {state}: no public hash" in said and next in said and hub.requests == []


def test_another_ones_namespace(hub):
    assert "--namespace me or ORG" in refused(2, BUNDLED, "--namespace", "OTHERS")
    assert hub.repos == {}
