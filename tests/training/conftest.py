"""What tests of commands that are killed share."""

import socket

import pytest
from runs import command
from zygote import Zygote


@pytest.fixture(scope="module")
def zygote():
    server = Zygote()
    yield server
    server.close()


@pytest.fixture
def two_ranks(zygote, tmp_path):
    """Starts the two processes torchrun would; returns their pids."""

    def start(out, *more, recipe, environment=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            zygote.start(
                command(tmp_path, out, *more, recipe=recipe), tmp_path / f"rank{rank}.txt",
                shared | (environment or {}) | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]  # fmt: skip

    return start
