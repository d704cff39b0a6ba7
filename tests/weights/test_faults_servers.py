"""The failure matrix (tests/support/fault_table.py), third part: servers that mean harm, and what they are told."""

import re
import time

import pytest
from arrivals import CONTENT, FILE, PINNED, arrives
from fault_table import fault
from hostile_servers import SERVERS, HostileServer

from robust_zoo.errors import Unavailable, VerificationFailed
from robust_zoo.weights.sources import fetch

pytestmark = pytest.mark.usefixtures("impatient")


def row_of(name):
    if "drip" in name or "without end" in name or "long extensions" in name or "endless" in name:
        return "drip"
    return "malformed"


@pytest.mark.parametrize("name", [pytest.param(name, marks=fault(row_of(name))) for name in SERVERS])
def test_a_hostile_server_ends_and_the_next_source_has_its_turn(name, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.4")
    script, cause = SERVERS[name]
    with HostileServer(script, len(CONTENT)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        started = time.monotonic()
        with pytest.raises((Unavailable, VerificationFailed)) as error:
            fetch(PINNED, tmp_path / "alone", progress=False)
        said = str(error.value)
        assert server.requests and re.search(cause, error.value.source), said
        assert said.replace("\n", "").isprintable() and "pw-in-redirect" not in said and len(said) < 2500
        assert all(error.value.fields.values())
        hub.files[FILE] = CONTENT
        monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
        arrives(PINNED, tmp_path / "mirrored")
        assert time.monotonic() - started < 20 and server.sent < 64 << 20
