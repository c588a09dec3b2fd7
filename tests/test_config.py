"""The settings of a flow function, from its environment and its secrets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from faasflow.config import Settings, parse_duration
from faasflow.errors import ConfigError
from faasflow.stores import open_state_store

UNSIGNED = {"validate_request": "false"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder with the secret in it, as `faas-cli secret create` leaves it."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "faasflow-hmac-secret").write_bytes(b" s3cr3t\n")
    return folder


def read(**environ: str) -> Settings:
    return Settings.from_environment(UNSIGNED | environ)


def test_without_any_setting_a_flow_talks_to_the_gateway_of_the_cluster() -> None:
    settings = read()

    assert (settings.gateway, settings.flow) == ("http://gateway.openfaas:8080", "")
    assert (settings.host, settings.port, settings.threads) == ("127.0.0.1", 5000, 32)
    assert (settings.call_timeout, settings.exec_timeout, settings.grace) == (60.0, 30.0, 0.0)
    assert (settings.default_method, settings.authenticate_request, settings.allow_sha1) == ("POST", False, False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("gateway.openfaas:8080", "http://gateway.openfaas:8080"),
        ("gateway", "http://gateway"),
        (" 10.0.0.1:8080 ", "http://10.0.0.1:8080"),
        ("http://gateway:8080/", "http://gateway:8080"),
        ("https://faas.example.com/base/", "https://faas.example.com/base"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_gateway_is_host_and_port_or_a_url(given: str, url: str) -> None:
    assert read(gateway=given).gateway == url


@pytest.mark.parametrize(
    "given", ["ftp://gateway", "http://", "gateway:port", "gate way", "http://g?x=1", "http://g:0"]
)
def test_a_gateway_that_is_no_address_is_refused_by_name(given: str) -> None:
    with pytest.raises(ConfigError, match="Setting 'gateway' is ") as raised:
        read(gateway=given)

    assert repr(given) in str(raised.value)
    assert "host:port" in str(raised.value)


def test_a_password_in_the_gateway_is_refused_without_being_told() -> None:
    with pytest.raises(ConfigError) as raised:
        read(gateway="http://user:hunter2@gateway:8080")

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "flow"),
    [
        ({"workflow_name": "mine", "OPENFAAS_NAME": "theirs"}, "mine"),
        ({"OPENFAAS_NAME": "theirs"}, "theirs"),
        ({"workflow_name": " ", "OPENFAAS_NAME": "theirs"}, "theirs"),
        ({}, ""),
    ],
)
def test_the_flow_is_named_by_the_configuration_or_else_by_the_platform(environ: dict[str, str], flow: str) -> None:
    assert read(**environ).flow == flow


def test_what_the_caller_gives_stands_above_the_environment() -> None:
    settings = Settings.from_environment(UNSIGNED | {"workflow_name": "a", "port": "1"}, flow="b", port=2)

    assert (settings.flow, settings.port) == ("b", 2)


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes"])
def test_a_switch_is_on_in_any_case(text: str, secrets: Path) -> None:
    assert read(authenticate_request=text, secret_mount_path=str(secrets)).authenticate_request


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", ""])
def test_a_switch_is_off_in_any_case(text: str) -> None:
    assert not read(authenticate_request=text).authenticate_request


@pytest.mark.parametrize("name", ["validate_request", "authenticate_request", "allow_sha1"])
def test_a_switch_that_is_neither_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Setting {name!r} is 'maybe', which is not understood. Give 'true' or"):
        read(**{name: "maybe"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        ("5ns", 5e-9),
        (".5s", 0.5),
        (" 2s ", 2.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_written_as_in_go_or_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", ".", "1d", "1m 30s", "-1s", "+1s", "1e3", "inf", "nan", "1s30", "٣s", "1,5s"]
)
def test_a_duration_that_is_neither_is_not_understood(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    "name", ["read_timeout", "write_timeout", "exec_timeout", "call_timeout", "healthcheck_interval"]
)
@pytest.mark.parametrize("text", ["soon", "-5", "9999999h"])
def test_a_timeout_that_is_no_duration_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"Setting {name!r} is {text!r}.*a duration like '90s'"):
        read(**{name: text})


def test_timeouts_are_read() -> None:
    settings = read(call_timeout="2m", exec_timeout="1m30s")

    assert (settings.call_timeout, settings.exec_timeout) == (120.0, 90.0)


def test_a_call_must_be_given_some_time() -> None:
    with pytest.raises(ConfigError, match="call_timeout"):
        read(call_timeout="0")


@pytest.mark.parametrize(
    ("environ", "grace"),
    [
        ({}, 0.0),
        ({"write_timeout": "65s"}, 0.0),
        ({"fprocess": "python index.py"}, 30.0),
        ({"fprocess": "python index.py", "write_timeout": "65s"}, 65.0),
        ({"fprocess": "python index.py", "write_timeout": "65s", "healthcheck_interval": "5s"}, 5.0),
        ({"healthcheck_interval": "2"}, 2.0),
    ],
)
def test_a_function_outlives_the_watchdog_in_front_of_it(environ: dict[str, str], grace: float) -> None:
    assert read(**environ).grace == grace


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({"port": "8081"}, 8081),
        ({"port": "8081", "upstream_url": "http://127.0.0.1:5001"}, 5001),
        ({"upstream_url": "http://127.0.0.1"}, 80),
    ],
)
def test_a_function_listens_where_the_watchdog_expects_it(environ: dict[str, str], port: int) -> None:
    assert read(**environ).port == port


@pytest.mark.parametrize(
    ("name", "text"),
    [("port", "http"), ("port", "65536"), ("port", "-1"), ("threads", "0"), ("threads", "many"), ("threads", "²")],
)
def test_a_number_out_of_range_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"Setting {name!r} is {text!r}.*a whole number from"):
        read(**{name: text})


@pytest.mark.parametrize("name", ["default-method", "default_method"])
def test_the_default_method_may_be_spelled_both_ways(name: str) -> None:
    assert read(**{name: "put"}).default_method == "PUT"


def test_a_method_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Setting 'default-method' is 'PO ST'"):
        read(**{"default-method": "PO ST"})


def test_without_stores_a_flow_keeps_its_records_in_a_file_of_its_own(tmp_path: Path) -> None:
    settings = read(workflow_name="orders", state_dir=str(tmp_path))

    assert settings.state_store == settings.data_store == f"sqlite://{tmp_path}/orders.db"


def test_without_a_folder_the_file_lies_where_temporary_files_do() -> None:
    assert unquote(read(workflow_name="orders").state_store) == f"sqlite://{tempfile.gettempdir()}/faasflow/orders.db"


@pytest.mark.parametrize("flow", ["a/b", "..", "100%", "a?b#c", "ü"])
def test_the_file_of_any_flow_can_be_opened(tmp_path: Path, flow: str) -> None:
    store = open_state_store(read(workflow_name=flow, state_dir=str(tmp_path / "odd ?#%")).state_store)
    store.init()
    store.close()

    assert [file.parent.name for file in tmp_path.rglob("*.db")] == ["odd ?#%"]


def test_stores_are_taken_as_they_are_given() -> None:
    settings = read(state_store="memory:", data_store="sqlite:///data.db")

    assert (settings.state_store, settings.data_store) == ("memory:", "sqlite:///data.db")


def test_the_key_is_the_secret_without_the_space_around_it(secrets: Path) -> None:
    settings = Settings.from_environment({"secret_mount_path": str(secrets)})

    assert settings.key == b"s3cr3t"


def test_a_key_is_never_shown(secrets: Path) -> None:
    settings = Settings.from_environment({"secret_mount_path": str(secrets)})

    assert "s3cr3t" not in repr(settings)


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"validate_request": "true"},
        {"authenticate_request": "true"},
        {"authenticate_request": "true", "validate_request": "false"},
    ],
)
def test_a_missing_secret_is_told_with_the_way_out(tmp_path: Path, switches: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.from_environment({"secret_mount_path": str(tmp_path)} | switches)
    text = str(raised.value)

    assert f"Secret 'faasflow-hmac-secret' cannot be read at '{tmp_path}/faasflow-hmac-secret'" in text
    assert "faas-cli secret create" in text
    assert "validate_request=false" in text


def test_an_empty_secret_is_no_secret(secrets: Path) -> None:
    (secrets / "faasflow-hmac-secret").write_bytes(b" \n")
    with pytest.raises(ConfigError, match="is empty"):
        Settings.from_environment({"secret_mount_path": str(secrets)})


def test_without_validation_no_secret_is_needed_and_none_is_used(secrets: Path) -> None:
    assert read(secret_mount_path=str(secrets)).key is None


def test_who_authenticates_callers_signs_messages_as_well(secrets: Path) -> None:
    settings = read(secret_mount_path=str(secrets), authenticate_request="true", validate_request="false")

    assert settings.key == b"s3cr3t"


def test_settings_do_not_change() -> None:
    settings: Any = read()
    with pytest.raises(AttributeError):
        settings.port = 1
