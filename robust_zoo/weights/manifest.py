"""Hashes by file name in one small JSON file: of all that this package vouches for (it can be signed), or of a bundle.

python -m robust_zoo.weights.manifest      writes manifest.json beside this module (`make manifest`)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from robust_zoo.errors import Refused, UsageError, VerificationFailed, missing_file, not_installed
from robust_zoo.files import is_sha256, sha256_of
from robust_zoo.readers import read_json
from robust_zoo.registry.load import MEASURED, PUBLISHED, TOML, load_registry
from robust_zoo.registry.rows import DATA

PATH = Path(__file__).with_name("manifest.json")
FORMAT = "robust_zoo manifest 1"
LARGEST = 1 << 20  # bytes; ours has about 10 kB
_FILE = re.compile(r"([a-z]+/)?[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Entry:
    """One file.

    Attributes:
        sha256: Of its bytes.
        size: In bytes, None when unknown.
        licence: "unknown" of weights that are not passed on, "" of all others.
    """

    sha256: str
    size: int | None
    licence: str = ""


def installed() -> dict[str, Entry]:
    """What the package vouches for, computed now: its rows, its data, and what is pinned.

    Returns:
        Entries by name: `source/FILE` of checkpoints, `weights/NAME.safetensors` of what they convert to.
    """
    found = {path.name: path for path in (TOML, MEASURED, PUBLISHED)}
    found |= {f"bundled/{path.name}": path for path in DATA.iterdir() if path.is_file()}
    entries = {name: Entry(sha256_of(path), path.stat().st_size) for name, path in found.items()}
    for checkpoint in load_registry().checkpoints.values():
        licence = "" if checkpoint.may_be_passed_on else "unknown"
        if checkpoint.converted_sha256:
            size = checkpoint.published.size if checkpoint.published else None
            entries[f"weights/{checkpoint.name}.safetensors"] = Entry(checkpoint.converted_sha256, size, licence)
        if checkpoint.sha256 and not checkpoint.bundled:
            entries[f"source/{checkpoint.file}"] = Entry(checkpoint.sha256, checkpoint.size, licence)
    return entries


def render(entries: Mapping[str, Entry]) -> bytes:
    """The manifest's bytes: the same entries give the same."""
    files = {
        name: {key: value for key, value in asdict(entry).items() if value != ""}
        for name, entry in sorted(entries.items())
    }
    return (json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n").encode()


def parse(text: bytes, source: str) -> dict[str, Entry]:
    """A manifest's entries.

    Args:
        text: Its bytes.
        source: Where it is from, for messages.

    Returns:
        Entries by file name.

    Raises:
        Refused: It is not exactly a manifest.
    """
    try:
        content = read_json(text, limit=LARGEST)
        if content["format"] != FORMAT or content.keys() != {"format", "files"}:
            raise ValueError(f"format {str(content['format'])[:40]!r}, keys {sorted(content)[:4]}")
        entries = {name: Entry(**values) for name, values in content["files"].items()}
        for name, entry in entries.items():
            if not _FILE.fullmatch(name):
                raise ValueError(f"a file named {name[:60]!r}")
            if not is_sha256(entry.sha256) or type(entry.size) not in (int, type(None)) or (entry.size or 0) < 0:
                raise ValueError(f"{name}: {str(entry)[:120]}")
            if entry.licence not in ("", "unknown"):
                raise ValueError(f"{name}: the licence {str(entry.licence)[:40]!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            "not a sound manifest",
            model="manifest.json",
            source=source,
            expected=f"JSON in the format {FORMAT!r}: a sha256 and a size for each file",
            actual=f"{type(error).__name__}: {error}",
            next="ask whoever made it for the file again",
        ) from None
    return entries


def check_signature(
    signature: Path, *, public_key: Path | None = None, identity: str = "", issuer: str = "", manifest: Path = PATH
) -> None:
    """That `manifest` was signed by this key or identity, and that what is installed is what it lists.

    Args:
        signature: As in check_signed.
        public_key: As in check_signed.
        identity: As in check_signed.
        issuer: As in check_signed.
        manifest: What was signed.

    Raises:
        UsageError: Nothing to compare with, or the `signing` extra is not installed.
        VerificationFailed: The signature does not hold, or what is installed is something else.
        Refused: What was signed is no manifest.
    """
    check_signed(manifest, signature, public_key=public_key, identity=identity, issuer=issuer)
    listed, found = parse(manifest.read_bytes(), str(manifest)), installed()
    if differing := sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name)):
        names = ", ".join(differing[:3]) + (" ..." if len(differing) > 3 else "")
        raise _failed("installed files differ from the signed ones", manifest, "what was signed", f"others: {names}")


def check_signed(
    manifest: Path, signature: Path, *, public_key: Path | None = None, identity: str = "", issuer: str = ""
) -> None:
    """That a manifest was signed by this key or identity.

    Args:
        manifest: What was signed.
        signature: A file that model_signing wrote (a Sigstore bundle).
        public_key: A PEM file of an elliptic-curve key.
        identity: Instead, who signed with Sigstore; that opens a connection.
        issuer: Who vouched for the identity.

    Raises:
        UsageError: Nothing to compare with, or the `signing` extra is not installed.
        VerificationFailed: The signature does not hold.
    """
    if bool(public_key) == bool(identity and issuer):
        raise UsageError(
            "whose signature?",
            expected="a public key, or an identity and its issuer",
            actual="both" if public_key else "neither",
            next="robust-zoo verify --signature FILE --public-key KEY.pem",
        )
    try:
        from model_signing import verifying
    except ImportError as error:
        # model-signing, or one of those it is made of
        raise not_installed("signatures need the signing extra", error.name or "model-signing", "signing") from None
    for path in (signature, *filter(None, [public_key])):
        if not path.is_file():
            raise missing_file(path, "a signature and a public key", "fetch both from the release")
    config, signer = verifying.Config(), str(public_key or identity)
    try:
        if public_key:
            config.use_elliptic_key_verifier(public_key=public_key)
        else:
            config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
        config.verify(manifest, signature)
    except Exception as error:  # a dozen kinds, of four libraries; each means that the signature does not hold
        raise _failed("the signature does not hold", manifest, f"signed by {signer}", _cause(error)) from None


def _cause(error: Exception) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def _failed(message: str, manifest: Path, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        message,
        model=manifest.name,
        source=str(manifest),
        expected=expected,
        actual=actual,
        next="pip install --force-reinstall robust-zoo, and fetch the signature from its release"
        if manifest == PATH
        else "get the bundle and the signature of its manifest.json again, from whoever made them",
    )


if __name__ == "__main__":
    PATH.write_bytes(render(installed()))
