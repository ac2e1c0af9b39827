"""The storage part of the environment: defaults, backends and what they need, database URLs."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from storage.settings import StorageSettings

S3 = {"MEDIA_STORAGE_BACKEND": "s3", "AWS_S3_BUCKET": "b"}
R2 = {
    "MEDIA_STORAGE_BACKEND": "r2",
    "R2_BUCKET": "b",
    "R2_ACCESS_KEY_ID": "id",
    "R2_SECRET_ACCESS_KEY": "s3cret",
    "R2_ACCOUNT_ID": "a",
}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and a working folder without ``.env``."""
    for each in StorageSettings.model_fields.values():
        monkeypatch.delenv(str(each.alias), raising=False)
    monkeypatch.chdir(tmp_path)


def load(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> StorageSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return StorageSettings()


def test_without_any_variable_everything_lies_below_one_folder() -> None:
    settings = StorageSettings()
    assert settings.backend == "local"
    assert settings.path == Path(".media")
    assert settings.records_url == f"sqlite:///{Path('.media/gateway.db').absolute()}"
    assert settings.spool_path == Path(".media/spool")
    assert settings.copies_path == Path(".media/cache")


def test_only_the_variables_of_the_contract_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # A field's own name is a variable of somebody else: PATH was taken for MEDIA_STORAGE_PATH.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("BACKEND", "s3")
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/application")
    settings = StorageSettings()
    assert settings.path == Path(".media")
    assert settings.backend == "local"
    assert settings.database_url is None


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MEDIA_STORAGE_PATH=/from/file\nMEDIA_CACHE_BYTES=1\nSOMETHING_ELSE=1\n")
    settings = load(monkeypatch, {"MEDIA_STORAGE_PATH": "/from/environment"})
    assert settings.path == Path("/from/environment")
    assert settings.cache_bytes == 1


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:p@h/db"),
        ("postgres://u:postgres://@h/db", "postgresql://u:postgres://@h/db"),
        ("postgresql+asyncpg://h/db", "postgresql+asyncpg://h/db"),
        ("sqlite:////var/lib/media.db", "sqlite:////var/lib/media.db"),
    ],
)
def test_a_database_is_sqlite_or_postgresql(monkeypatch: pytest.MonkeyPatch, given: str, url: str) -> None:
    assert load(monkeypatch, {"MEDIA_DATABASE_URL": given}).records_url == url


@pytest.mark.parametrize(
    "url", ["media.db", "mysql://h/db", "postgresql://u@h:port/db", "sqlite://", "sqlite:///:memory:"]
)
def test_any_other_database_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ValidationError, match="MEDIA_DATABASE_URL"):
        load(monkeypatch, {"MEDIA_DATABASE_URL": url})


@pytest.mark.parametrize("variables", [S3, R2, R2 | {"R2_ACCOUNT_ID": "", "R2_ENDPOINT": "https://r2.example"}])
def test_a_backend_with_what_it_needs_is_taken(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert load(monkeypatch, variables).backend == variables["MEDIA_STORAGE_BACKEND"]


@pytest.mark.parametrize(
    ("variables", "missing"),
    [(S3, "AWS_S3_BUCKET"), *((R2, name) for name in R2 if name != "MEDIA_STORAGE_BACKEND")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_backend_without_what_it_needs_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], missing: str
) -> None:
    with pytest.raises(ValidationError, match=f"{missing} is needed for MEDIA_STORAGE_BACKEND"):
        load(monkeypatch, variables | {missing: ""})


def test_secrets_do_not_show() -> None:
    shown = repr(StorageSettings.model_validate({"AWS_SECRET_ACCESS_KEY": "s3cret", "R2_SECRET_ACCESS_KEY": "s3cret"}))
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("cache", "item", "fits"),
    [
        pytest.param(None, "67108864", True, id="all of the default"),
        pytest.param("1000", "1000", True, id="all of it"),
        pytest.param("1000", "1001", False, id="more than there is"),
        pytest.param("1000", None, True, id="the default binds nobody"),
        pytest.param("0", "1000", True, id="nothing is kept anyway"),
    ],
)
def test_a_body_in_memory_must_fit(
    monkeypatch: pytest.MonkeyPatch, cache: str | None, item: str | None, *, fits: bool
) -> None:
    given = {"MEDIA_CACHE_BYTES": cache, "MEDIA_CACHE_ITEM_BYTES": item}
    variables = {name: value for name, value in given.items() if value is not None}
    if fits:
        load(monkeypatch, variables)
        return
    with pytest.raises(ValidationError, match="MEDIA_CACHE_ITEM_BYTES"):
        load(monkeypatch, variables)
