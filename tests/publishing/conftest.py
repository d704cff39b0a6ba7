"""A hub that can be written to, for our own client and for huggingface_hub's in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import TOKEN, WritableHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WritableHub]:
    """Running; this process and those it starts write to it and read from it, without xet and without waiting."""
    from huggingface_hub import constants, file_download, hf_api
    from huggingface_hub.utils import _http

    with WritableHub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        template = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        for module in (constants, file_download):  # 0.30 has it twice
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(hf_api.api, "endpoint", running.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # 0.30 has none
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(_http.time, "sleep", lambda _: None)
        yield running
