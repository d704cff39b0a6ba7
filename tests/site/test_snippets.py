"""Lines to copy are true for the checkpoint that they are of."""

import ast
from dataclasses import replace

import pytest

import robust_zoo
from robust_zoo import get, home, list_models
from robust_zoo.cli import main
from robust_zoo.registry.published import Published
from robust_zoo.site.snippets import snippets

REPO = "someone/it"


def lines(checkpoint):
    return {snippet.title: snippet.code for snippet in snippets(checkpoint)}


def published(name):
    there = Published(REPO, "0" * 40, "0" * 64, 1)
    return replace(get(name), published=there)


@pytest.mark.parametrize("name", list_models()[::10])
def test_python_is_python_and_calls_what_there_is(name):
    for title, code in lines(get(name)).items():
        if title == "Command line":
            words = code.partition("#")[0].split()
            verb = main.get_command(None, words[1])
            verb.make_context(words[1], words[2:])
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "robust_zoo":
                assert node.attr in robust_zoo.__all__
        assert f'"{name}"' in code


def test_timm_alone_only_where_it_can():
    assert "robust_zoo" not in lines(published("resnet50_l2_eps3"))["timm"]
    assert f'timm.create_model("hf-hub:{REPO}", pretrained=True)' in lines(published("resnet50_l2_eps3"))["timm"]
    own = lines(published("shufflenet_l2_eps3"))["timm"]
    assert f"hf-hub:{REPO}" in own and "register_with_timm()" in own and "lacks this network" in own


def test_what_is_not_published_is_said_to_be_so():
    assert "# not on the hub yet" in lines(get("resnet50_l2_eps3"))["timm"]
    closed = next(get(name) for name in list_models() if not get(name).may_be_passed_on)
    assert "# without a licence never published" in lines(closed)["timm"]
    assert all("hf-hub" not in code for name in list_models() for code in lines(get(name)).values())


def test_torch_hub_of_a_repository_and_of_a_checkout(monkeypatch):
    assert 'source="local"' in lines(get("resnet50_l2_eps3"))["torch.hub"]
    monkeypatch.setattr(home, "REPOSITORY", "someone/zoo")
    assert lines(get("resnet50_l2_eps3"))["torch.hub"] == (
        'import torch\nmodel = torch.hub.load("someone/zoo", "resnet50_l2_eps3")'
    )


def test_a_file_without_a_hash_needs_the_flag():
    loose = next(get(n) for n in list_models() if not get(n).has_public_hash and not get(n).bundled)
    assert "--allow-unverified" in lines(loose)["Command line"]
    assert "--allow-unverified" not in lines(get("resnet50_l2_eps3"))["Command line"]
