"""What the tests of downloads share: a file, and rows that promise it."""

import hashlib
import random
from dataclasses import replace

from robust_zoo.registry.lookup import get
from robust_zoo.weights import cache
from robust_zoo.weights.sources import fetch

CONTENT = random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
UNPINNED = get("resnet50_l2_eps0_25")  # its sha256 is what the hub declares
FILE = UNPINNED.file
PINNED = replace(get("resnet50_l2_eps3"), file=FILE, sources=UNPINNED.sources, sha256=SHA256, size=len(CONTENT))
PART = f"{FILE}.{SHA256[:12]}.part"
REAL = get("shufflenet_l2_eps0")  # the smallest: for what goes on to be converted


def arrives(row, directory, **kwargs):
    fetched = fetch(row, directory, progress=False, **kwargs)
    assert fetched.path.read_bytes() == CONTENT and fetched.sha256 == SHA256
    return fetched


def nothing_stored(root):
    return not list(root.glob("weights/*"))


def receipt_in(row, root):
    """The receipt of a cached file whose bytes were just hashed, None when it is not cached."""
    found = cache.hashed(row, root)
    return found and found[0]
