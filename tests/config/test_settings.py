"""Defaults that are safe where it matters, and secrets that are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings


def test_demo_is_off_unless_asked_for() -> None:
    assert not Settings().demo
    assert Settings(demo=True).demo


def test_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    first = settings.secret("some.key")
    assert len(first) == 32
    assert Settings(data=tmp_path).secret("some.key") == first
    assert (tmp_path / "secrets" / "some.key").stat().st_mode & 0o077 == 0


def test_short_secret_is_refused(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    settings.secrets_dir.mkdir()
    (settings.secrets_dir / "some.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="shorter"):
        settings.secret("some.key")
