"""Defaults that are safe where it matters, and secrets that are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "TURNPIKE_DEMO", "TURNPIKE_HTTP_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_demo_is_on_by_default_on_one_machine_with_its_own_database() -> None:
    assert Settings().demo


@pytest.mark.parametrize("given", [{"database_url": "postgresql://db/turnpike"}, {"http_host": "0.0.0.0"}])
def test_demo_is_off_by_default_where_others_can_reach_it(given: dict[str, str]) -> None:
    assert not Settings.model_validate(given).demo


def test_demo_can_be_asked_for_anywhere() -> None:
    assert Settings(database_url="postgresql://db/turnpike", demo=True).demo


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
