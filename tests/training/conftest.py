"""What tests of commands that are killed share."""

import socket

import pytest
from runs import command, losses
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


@pytest.fixture
def apart_from_one(zygote, two_ranks, tmp_path):
    """Trains a recipe in float64 by one process and by two; returns the greatest difference of their losses."""

    def train(recipe):
        one, two = tmp_path / "one", tmp_path / "two"
        arguments = command(tmp_path, one, "--precision", "fp64", recipe=recipe)
        assert zygote.wait(zygote.start(arguments, tmp_path / "output.txt")) == 0
        assert [zygote.wait(pid) for pid in two_ranks(two, "--precision", "fp64", recipe=recipe)] == [0, 0]
        pairs = zip(losses(one), losses(two), strict=True)
        return max(abs(float.fromhex(a) - float.fromhex(b)) for (_, a), (_, b) in pairs)

    return train
