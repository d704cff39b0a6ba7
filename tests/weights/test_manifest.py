"""The manifest of hashes: what is shipped is in it, nothing else passes for one, and its signature must hold."""

import json
import random
import sys

import pytest
from fault_table import command, refused

from robust_zoo.errors import Refused, UsageError, VerificationFailed
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import DATA
from robust_zoo.weights import manifest
from robust_zoo.weights.manifest import Entry, check_signature, installed, parse, render

SHIPPED = manifest.PATH.read_bytes()


def test_the_shipped_manifest_is_of_what_is_installed():
    """`make manifest` writes it."""
    assert render(installed()) == SHIPPED
    assert parse(SHIPPED, "x") == installed()


def test_it_covers_every_file_of_the_package_and_every_pinned_source():
    entries = installed()
    pinned = [get(name) for name in list_models(bundled=False) if get(name).sha256]
    assert len(pinned) == 45
    assert entries.keys() == {
        "checkpoints.toml",
        "measured.json",
        "published.toml",
        *(f"bundled/{path.name}" for path in DATA.iterdir()),
        *(f"source/{row.file}" for row in pinned),
    }
    assert {entries[f"source/{row.file}"].sha256 for row in pinned} == {row.sha256 for row in pinned}
    assert all(entries[f"bundled/{get(n).file}"].sha256 == get(n).sha256 for n in list_models(bundled=True))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000,
        json.dumps({"format": "another", "files": {}}).encode(),
        json.dumps({"format": manifest.FORMAT, "files": []}).encode(),
        json.dumps({"format": manifest.FORMAT, "files": {}, "more": 1}).encode(),
        *(json.dumps({"format": manifest.FORMAT, "files": {name: entry}}).encode() for name, entry in [
            ("../x", {"sha256": "0" * 64, "size": 1}), ("/x", {"sha256": "0" * 64, "size": 1}),
            ("a/b/c", {"sha256": "0" * 64, "size": 1}), ("x\n", {"sha256": "0" * 64, "size": 1}),
            ("x", {"sha256": "0" * 63, "size": 1}), ("x", {"sha256": "A" * 64, "size": 1}),
            ("x", {"sha256": "0" * 64}), ("x", {"sha256": "0" * 64, "size": -1}),
            ("x", {"sha256": "0" * 64, "size": 1.5}),
            ("x", {"sha256": "0" * 64, "size": True}), ("x", {"sha256": 5, "size": 1}), ("x", "0" * 64),
            ("x", {"sha256": "0" * 64, "size": 1, "more": 1}),
        ]),
        b'{"format": "%s", "files": {"x": {"sha256": "%s", "size": 1, "size": 2}}}'
        % (manifest.FORMAT.encode(), b"0" * 64),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(content):
    with pytest.raises(Refused, match="manifest") as error:
        parse(content, "somewhere")
    assert error.value.source == "somewhere" and error.value.exit_code == 6


def test_render_and_parse_are_inverse_and_ordered():
    entries = {"b": Entry("1" * 64, None), "a/b.c": Entry("0" * 64, 5)}
    assert parse(render(entries), "x") == entries
    assert render(dict(reversed(entries.items()))) == render(entries)


# --- Signatures: keys are made here; the library is the one that verifies ------------------------------------


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """(public key, signature) of the shipped manifest, by a key that nobody keeps."""
    folder = tmp_path_factory.mktemp("keys")
    return sign(manifest.PATH, folder)


def sign(path, folder):
    signing = pytest.importorskip("model_signing.signing")
    from cryptography.hazmat.primitives import serialization as kinds
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public, signature = folder / "key.pem", folder / "key.pub", folder / "manifest.json.sig"
    private.write_bytes(key.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(kinds.Encoding.PEM, kinds.PublicFormat.SubjectPublicKeyInfo))
    signing.Config().use_elliptic_key_signer(private_key=private).sign(path, signature)
    return public, signature


def test_a_signature_holds(signed):
    public, signature = signed
    check_signature(signature, public_key=public)
    result = command("verify", "--signature", signature, "--public-key", public)
    assert result.returncode == 0 and "signed by" in result.stderr and "8 of 8 ok" in result.stderr


def test_anothers_signature_does_not(signed, tmp_path):
    other, _ = sign(manifest.PATH, tmp_path)
    text = refused(1, "verify", "--signature", signed[1], "--public-key", other)
    assert "does not hold" in text


def test_1000_mutations_of_the_manifest_are_refused(signed, tmp_path):
    public, signature = signed
    path = tmp_path / "manifest.json"
    draw = random.Random(0)
    path.write_bytes(SHIPPED)
    check_signature(signature, public_key=public, manifest=path)
    for _ in range(1000):
        data = bytearray(SHIPPED)
        at = draw.randrange(len(data))
        match draw.randrange(3):
            case 0:
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at : at + draw.randint(1, 80)]
            case _:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
        path.write_bytes(data)
        with pytest.raises(VerificationFailed, match="does not hold"):
            check_signature(signature, public_key=public, manifest=path)


def test_mutated_signatures_never_vouch_for_another_manifest(signed, tmp_path):
    """Some bits of a signature file mean nothing (a hint, base64's last bits): what passes, passes for this one."""
    public, signature = signed
    good, draw = signature.read_bytes(), random.Random(1)
    path, mutated = tmp_path / "manifest.json", tmp_path / "x.sig"
    path.write_bytes(SHIPPED.replace(b"e", b"f", 1))
    refusals = 0
    for _ in range(300):
        data = bytearray(good)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        mutated.write_bytes(data)
        with pytest.raises(VerificationFailed):
            check_signature(mutated, public_key=public, manifest=path)
        try:
            check_signature(mutated, public_key=public)
        except VerificationFailed:
            refusals += 1
    assert refusals > 280


def test_installed_files_that_differ_from_the_signed_manifest(tmp_path):
    """A signature over a manifest of other rows holds, and is refused for what is installed here."""
    listed = parse(SHIPPED, "x") | {"checkpoints.toml": Entry("0" * 64, 1)}
    path = tmp_path / "manifest.json"
    path.write_bytes(render(listed))
    public, signature = sign(path, tmp_path)
    with pytest.raises(VerificationFailed, match="differ") as error:
        check_signature(signature, public_key=public, manifest=path)
    assert "checkpoints.toml" in error.value.actual


@pytest.mark.parametrize("arguments", [{}, {"identity": "me"}, {"issuer": "x"}], ids=str)
def test_a_signer_must_be_named(signed, arguments):
    with pytest.raises(UsageError, match="whose"):
        check_signature(signed[1], **arguments)


def test_usage_of_the_options(signed, tmp_path):
    refused(2, "verify", "--public-key", signed[0], fields=3)
    refused(2, "verify", "--signature", tmp_path / "no.sig", "--public-key", signed[0], fields=3)
    refused(1, "verify", "--signature", signed[0], "--public-key", signed[0])  # a file that is no signature


def test_without_the_extra_it_says_what_to_install(signed, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(UsageError, match="extra") as error:
        check_signature(signed[1], public_key=signed[0])
    assert "robust-zoo[signing]" in error.value.next
