"""A tar file that holds exactly what its manifest lists, read without unpacking anything."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from robust_zoo.errors import Refused, VerificationFailed, missing_file
from robust_zoo.files import storage, sync_directory
from robust_zoo.readers import Malformed, open_tar
from robust_zoo.weights import manifest
from robust_zoo.weights.manifest import Entry

MANIFEST = "manifest.json"
_MEMBER = re.compile(r"weights/[a-z0-9_]+\.(safetensors|json)|cards/[a-z0-9_]+\.md|checkpoints\.toml|manifest\.json")
_CHUNK = 1 << 20  # bytes
_MAKE_ONE = "robust-zoo bundle PATTERN -o FILE   makes one, where there is internet"
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Archive:
    """An open bundle that holds exactly what its manifest lists; the hashes of all but the weights were compared.

    Attributes:
        path: Of the bundle.
        tar: The open file.
        members: What lies in it, by name.
        entries: What its manifest promises, by name.
        texts: The contents of all but the weights and the manifest, by name.
    """

    path: Path
    tar: tarfile.TarFile
    members: dict[str, tarfile.TarInfo]
    entries: dict[str, Entry]
    texts: dict[str, bytes]

    @property
    def names(self) -> list[str]:
        """Of the checkpoints."""
        return [name[len("weights/") : -len(".json")] for name in self.texts if name.endswith(".json")]

    def content(self, name: str) -> IO[bytes]:
        """A member, to be read where it lies."""
        file = self.tar.extractfile(self.members[name])
        assert file is not None  # regular files have content
        return file


def write(out: Path, texts: Mapping[str, bytes], files: Mapping[str, tuple[Path, Entry]], progress: Progress) -> None:
    """Writes the manifest, then texts, then files, all or nothing, and reads the files back.

    The same content gives the same bytes.

    Args:
        out: The bundle to write.
        texts: Small contents by name.
        files: Where each further member is, and what it must be, by name.
        progress: Told the bytes of files as they are read back.

    Raises:
        StorageError: The disk refused.
        VerificationFailed: A file is not what its entry says.
    """
    entries = {name: Entry(hashlib.sha256(text).hexdigest(), len(text)) for name, text in texts.items()}
    entries |= {name: entry for name, (_, entry) in files.items()}
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with storage(out), temporary.open("wb") as raw:
            with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for name, text in {MANIFEST: manifest.render(entries), **texts}.items():
                    tar.addfile(_info(name, len(text)), io.BytesIO(text))
                for name, (path, entry) in files.items():
                    with path.open("rb") as file:
                        tar.addfile(_info(name, entry.size or 0), file)
            raw.flush()
            os.fsync(raw.fileno())
        with opened(temporary) as archive:
            for name, (path, entry) in files.items():
                if (digest := copy(archive.content(name), None, progress)) != entry.sha256:
                    raise changed(path, entry.sha256, digest)
        with storage(out):
            temporary.replace(out)
            sync_directory(out.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """A bundle, checked, for as long as the block runs.

    Args:
        path: Of the bundle.

    Yields:
        The open bundle.

    Raises:
        UsageError: There is no such file.
        Refused: It is no bundle, or holds what a bundle does not.
    """
    if not path.is_file():
        raise missing_file(path, "a file of robust-zoo bundle", _MAKE_ONE, model=path.name)
    try:
        with open_tar(path) as (tar, members):
            yield _checked(path, tar, members)
    except Malformed as error:
        raise _no_bundle(path, str(error)) from None


def _checked(path: Path, tar: tarfile.TarFile, members: Iterable[tarfile.TarInfo]) -> Archive:
    """What lies in the archive must be what its manifest promises: plain files, each once, of that size and hash."""
    archive = Archive(path, tar, {}, {}, {})
    for member in members:
        if not _MEMBER.fullmatch(member.name) or member.type != tarfile.REGTYPE:
            raise _no_bundle(path, f"{member.name[:80]!r}, of type {member.type!r}")
        if member.name in archive.members:
            raise _no_bundle(path, f"{member.name} twice")
        if not archive.members and member.name != MANIFEST:
            raise _no_bundle(path, f"{member.name} first, not {MANIFEST}")
        if not member.name.endswith(".safetensors") and member.size > manifest.LARGEST:
            raise _no_bundle(path, f"{member.name} has more than {manifest.LARGEST:,} bytes")
        archive.members[member.name] = member
    if not archive.members:
        raise _no_bundle(path, "an empty archive")
    archive.entries.update(manifest.parse(archive.content(MANIFEST).read(), str(path)))
    sizes = {name: member.size for name, member in archive.members.items() if name != MANIFEST}
    promised = {name: entry.size for name, entry in archive.entries.items()}
    if differing := sorted(name for name in sizes | promised if sizes.get(name, -1) != promised.get(name, -1)):
        raise _no_bundle(path, f"missing, unlisted or of another size: {', '.join(differing[:3])}")
    for name in (name for name in sizes if not name.endswith(".safetensors")):
        archive.texts[name] = archive.content(name).read()
        if hashlib.sha256(archive.texts[name]).hexdigest() != archive.entries[name].sha256:
            raise _no_bundle(path, f"{name} with another hash than the manifest's")
    if {f"weights/{name}.safetensors" for name in archive.names} != sizes.keys() - archive.texts.keys():
        raise _no_bundle(path, "weights without a receipt, or a receipt without weights")
    return archive


def copy(file: IO[bytes], out: IO[bytes] | None, progress: Progress) -> str:
    """Reads a member to its end, and copies it if there is a place to copy to.

    Args:
        file: The member.
        out: Where it goes; None only reads.
        progress: Told the bytes of each piece.

    Returns:
        The sha256 of what was read.
    """
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if out:
            out.write(chunk)
        progress(len(chunk))
    return digest.hexdigest()


def _info(name: str, size: int) -> tarfile.TarInfo:
    """No owner and no time: the same content gives the same archive."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def changed(path: Path, expected: str, actual: str) -> VerificationFailed:
    """The error for a file that is not what was verified a moment ago: its sha256 as it was, and as it is."""
    return VerificationFailed(
        f"{path.name} changed while it was bundled",
        model=path.stem,
        source=str(path),
        expected=f"sha256 {expected}",
        actual=f"sha256 {actual}",
        next="robust-zoo bundle   once more",
    )


def _no_bundle(path: Path, actual: str) -> Refused:
    return Refused(
        f"{path.name} is not a bundle",
        model=path.name,
        source=str(path),
        expected="a tar file that robust-zoo bundle wrote: its manifest, and exactly what that lists",
        actual=actual,
        next=_MAKE_ONE,
    )
