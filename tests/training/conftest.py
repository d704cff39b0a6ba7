"""What tests of commands that are killed share."""

import pytest
from zygote import Zygote


@pytest.fixture(scope="module")
def zygote():
    server = Zygote()
    yield server
    server.close()
