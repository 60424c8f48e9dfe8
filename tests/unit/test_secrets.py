"""Secrets: found by name in three places, kept encrypted, told to nobody."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path

import pytest
from oneblock.cli.main import build
from typer.testing import CliRunner

from libs.common.errors import PermanentError
from libs.common.secrets import Places, Secret, resolve
from libs.common.secretstore import SHARED, SecretStore

CANARY = "canary-5f1c-do-not-tell"


def mounted(folder: Path, place: str, **values: str) -> None:
    """As Kubernetes does it: files are symlinks into a folder that is swapped whole."""
    data = folder / place / "..2026_01_01"
    data.mkdir(parents=True)
    (folder / place / "..data").symlink_to(data.name)
    for key, value in values.items():
        (data / key).write_text(value)
        (folder / place / key).symlink_to(f"..data/{key}")


def code_of(name: str, namespace: str, places: Places) -> str:
    with pytest.raises(PermanentError) as caught:
        resolve(name, namespace, places)
    return caught.value.code


def test_a_mounted_secret_is_read_and_a_namespace_s_own_comes_first(tmp_path: Path) -> None:
    mounted(tmp_path, "bucket", key="everybody's\n")
    mounted(tmp_path, "sales/bucket", key="sales'", other="x")
    places = Places(folders=(tmp_path,))
    assert dict(resolve("bucket", "default", places)) == {"key": "everybody's"}
    assert dict(resolve("bucket", "sales", places)) == {"key": "sales'", "other": "x"}


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "A", "", "sales", "nope", "x" * 300])
def test_a_name_is_never_a_path_nor_a_namespace_a_secret(tmp_path: Path, name: str) -> None:
    mounted(tmp_path, "sales/bucket", key="v")
    assert code_of(name, "default", Places(folders=(tmp_path,))) == "secret_not_found"


def test_a_value_that_is_no_text_or_too_long_is_named_without_being_shown(tmp_path: Path) -> None:
    mounted(tmp_path, "long", key="v" * ((1 << 20) + 1))
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "key").write_bytes(b"\xff\xfe")
    for name in ("long", "binary"):
        assert code_of(name, "default", Places(folders=(tmp_path,))) == "invalid_secret"


def test_the_environment_has_secrets_of_namespaces_and_of_all() -> None:
    environment = {
        "ONEBLOCK_SECRET_MY_BUCKET__ACCESS_KEY_ID": "everybody's",
        "ONEBLOCK_SECRET_SALES__MY_BUCKET__ACCESS_KEY_ID": "sales'",
    }
    places = Places(environment=environment)
    assert dict(resolve("my-bucket", "default", places)) == {"access_key_id": "everybody's"}
    assert dict(resolve("my-bucket", "sales", places)) == {"access_key_id": "sales'"}


def test_a_name_that_reads_like_two_finds_nothing_of_another_namespace() -> None:
    places = Places(environment={"ONEBLOCK_SECRET_SALES__BUCKET__KEY": "v"})
    assert code_of("sales--bucket", "default", places) == "secret_not_found"
    assert code_of("sales", "default", places) == "secret_not_found"


def test_the_store_keeps_secrets_encrypted_and_for_its_owner_alone(tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    store.set("bucket", {"key": CANARY}, "default")
    store.set("bucket", {"key": "everybody's"}, SHARED)
    assert store.get("bucket", "default") == {"key": CANARY}
    assert store.get("bucket", "sales") == {"key": "everybody's"}
    assert store.list() == [(SHARED, "bucket", ("key",)), ("default", "bucket", ("key",))]
    for file in tmp_path.iterdir():
        assert CANARY.encode() not in file.read_bytes()
    for name in ("secrets.json", "secrets.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert store.remove("bucket", "default")
    assert not store.remove("bucket", "default")


def test_an_entry_moved_under_another_name_or_opened_with_another_key_is_refused(
    tmp_path: Path,
) -> None:
    store = SecretStore(tmp_path)
    store.set("mine", {"key": "v"}, "default")
    path = tmp_path / "secrets.json"
    kept = json.loads(path.read_text())
    kept["secrets"]["sales/mine"] = kept["secrets"]["default/mine"]
    path.write_text(json.dumps(kept))
    with pytest.raises(PermanentError, match="another secret"):
        store.get("mine", "sales")
    (tmp_path / "secrets.key").unlink()
    with pytest.raises(PermanentError, match="key"):
        store.get("mine", "default")
    other = SecretStore(tmp_path / "other")
    other.set("x", {"key": "v"}, "default")
    (tmp_path / "other" / "secrets.key").rename(tmp_path / "secrets.key")
    with pytest.raises(PermanentError, match="can't be opened"):
        store.get("mine", "default")


def test_files_win_over_the_environment_and_that_over_the_store(tmp_path: Path) -> None:
    SecretStore(tmp_path).set("a", {"key": "store"}, "default")
    environment: dict[str, str] = {}
    places = Places((tmp_path / "mounts",), environment, tmp_path)
    assert resolve("a", "default", places)["key"] == "store"
    environment["ONEBLOCK_SECRET_A__KEY"] = "environment"
    assert resolve("a", "default", places)["key"] == "environment"
    mounted(tmp_path / "mounts", "a", key="file")
    assert resolve("a", "default", places)["key"] == "file"


def test_a_secret_tells_its_keys_alone_and_travels_nowhere() -> None:
    secret = Secret({"AWS_ACCESS_KEY_ID": "id", "secretAccessKey": CANARY})
    assert CANARY not in f"{secret!r} {secret} {vars(secret).keys()}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.first("access_key_id") == "id"
    assert secret.first("nope", "secret_access_key") == CANARY


def test_the_command_line_sets_lists_and_removes_without_ever_showing_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBLOCK_HOME", str(tmp_path))
    (tmp_path / "file").write_text("from a file\n")
    said = ""

    def run(*words: str, input: str = "") -> int:
        nonlocal said
        result = CliRunner().invoke(build(), ["secret", *words], input=input)
        said += result.output
        return result.exit_code

    assert run("set", "bucket", f"a={CANARY}", "b=-", f"c=@{tmp_path}/file", input=CANARY) == 0
    assert run("set", "asked", "key", "-n", "sales", input=f"{CANARY}\n") == 0
    assert run("list") == 0
    assert run("list", "-o", "json") == 0
    assert "a, b, c" in said
    assert SecretStore(tmp_path).get("bucket", "default") == {
        "a": CANARY, "b": CANARY, "c": "from a file",
    }  # fmt: skip
    assert SecretStore(tmp_path).get("asked", "sales") == {"key": CANARY}
    assert run("rm", "bucket") == 0
    assert run("rm", "bucket") == 1
    assert run("set", "Bad_Name", "a=b") == 1
    assert CANARY not in said
