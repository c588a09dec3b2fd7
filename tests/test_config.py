"""The settings of a flow function, from its environment and its secrets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from faasflow.config import Settings, Source, inspect, masked, parse_age, parse_duration
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


@pytest.mark.parametrize(("text", "found"), [("true", (True, False)), ("STRICT", (True, True)), ("no", (False, False))])
def test_callers_may_have_to_sign_starts_as_a_whole(text: str, found: tuple[bool, bool], secrets: Path) -> None:
    settings = read(authenticate_request=text, secret_mount_path=str(secrets))

    assert (settings.authenticate_request, settings.signs_starts_whole) == found


@pytest.mark.parametrize("name", ["validate_request", "authenticate_request", "allow_sha1"])
def test_a_switch_that_is_neither_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"Setting {name!r} is 'maybe', which is not understood. Give 'true'(?:, 'strict')? or"
    ):
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


def test_without_any_setting_the_clock_runs_and_a_week_is_kept() -> None:
    settings = read()

    assert (settings.tick_interval, settings.repair_after, settings.lease) == (10.0, 30.0, 20.0)
    assert settings.retention == 7 * 86400


def test_the_clock_may_be_off() -> None:
    assert read(tick_interval="0").tick_interval == 0.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604800), ("1d12h", 129600), ("0.5d", 43200), ("168h", 604800), ("90", 90), (" 2d ", 172800)],
)
def test_a_retention_may_be_counted_in_days(text: str, seconds: float) -> None:
    assert (parse_age(text), read(retention=text).retention) == (seconds, seconds)


@pytest.mark.parametrize("text", ["", "d", "7 d", "7dd", "-1d", "12h7d", "a week"])
def test_an_age_that_is_none_is_not_understood(text: str) -> None:
    assert parse_age(text) is None


@pytest.mark.parametrize(
    ("name", "text", "way_out"),
    [
        ("lease", "4s", "5s at least"),
        ("repair_after", "0", "1s at least"),
        ("retention", "0", "a duration like '7d', '168h' or '90m'"),
        ("retention", "367d", "a duration like '7d', '168h' or '90m'"),
        ("tick_interval", "1d", "a duration like '90s'"),
    ],
)
def test_a_time_of_the_clock_that_cannot_work_is_refused_by_name(name: str, text: str, way_out: str) -> None:
    with pytest.raises(ConfigError, match=f"Setting {name!r} is {text!r}.*{way_out}"):
        read(**{name: text})


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


def test_without_a_folder_the_file_lies_in_the_own_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = unquote(read(workflow_name="orders").state_store)
    monkeypatch.setenv("HOME", "/nowhere")
    without = unquote(read(workflow_name="orders").state_store)

    assert at_home == f"sqlite://{tmp_path}/.local/state/faasflow/orders.db"
    assert without == f"sqlite://{tempfile.gettempdir()}/faasflow-{os.getuid()}/orders.db"


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


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"consul_url": "consul.faasflow:8500"}, "consul://consul.faasflow:8500?dc=dc1"),
        ({"consul_url": "http://consul:8500/", "consul_dc": "east"}, "consul://consul:8500?dc=east"),
        ({"consul_url": "https://consul"}, "consuls://consul?dc=dc1"),
        ({"consul_url": "consul:8500", "state_store": "memory:"}, "memory:"),
    ],
)
def test_the_original_s_names_of_consul_name_the_state_store(environ: dict[str, str], url: str) -> None:
    assert read(**environ).state_store == url


@pytest.mark.parametrize("url", ["consul.faasflow:8500", "https://[::1]:8501"])
def test_the_store_that_the_original_s_names_name_can_be_opened(url: str) -> None:
    open_state_store(read(consul_url=url).state_store).close()


@pytest.fixture
def s3_secrets(secrets: Path) -> Path:
    for name in ("s3-access-key", "s3-secret-key", "mine"):
        (secrets / name).write_text(f"value of {name}")
    return secrets


def test_the_original_s_names_of_s3_name_the_data_store_and_the_files_of_its_secrets(s3_secrets: Path) -> None:
    settings = read(s3_url="minio.faasflow:9000", secret_mount_path=str(s3_secrets))
    other = read(
        s3_url="s3.example.com",
        s3_region="eu",
        s3_tls="1",
        s3_access_key_name="mine",
        secret_mount_path=str(s3_secrets),
    )

    assert settings.data_store == (
        f"s3://minio.faasflow:9000/faasflow?region=us-east-1"
        f"&access_key_file={s3_secrets}/s3-access-key&secret_key_file={s3_secrets}/s3-secret-key"
    )
    assert other.data_store.startswith("s3s://s3.example.com/faasflow?region=eu&access_key_file=")
    assert f"{s3_secrets}/mine&" in other.data_store


def test_a_data_store_that_is_given_stands_above_the_original_s_names() -> None:
    assert read(s3_url="minio:9000", data_store="memory:").data_store == "memory:"


def test_a_missing_secret_of_s3_is_told_by_name(secrets: Path) -> None:
    with pytest.raises(ConfigError, match="Secret 's3-access-key' cannot be read at"):
        read(s3_url="minio:9000", secret_mount_path=str(secrets))


@pytest.mark.parametrize("name", ["consul_url", "s3_url"])
@pytest.mark.parametrize("text", ["ftp://host", "host:port", "user:hunter2@host:1", "host/path", "a b"])
def test_a_server_that_is_no_address_is_refused_by_name(name: str, text: str, s3_secrets: Path) -> None:
    with pytest.raises(ConfigError, match=f"Setting {name!r} is ") as raised:
        read(**{name: text, "secret_mount_path": str(s3_secrets)})

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "login"),
    [
        ("", ""),
        ("false", ""),
        ("none", ""),
        ("true", "Basic YWRtaW46cMOkc3M="),
        ("basic", "Basic YWRtaW46cMOkc3M="),
        ("Bearer", "Bearer tok.en"),
    ],
)
def test_the_login_of_the_gateway_comes_from_secrets(kind: str, login: str, secrets: Path) -> None:
    for name, value in {"basic-auth-user": "admin", "basic-auth-password": "päss", "gateway-token": "tok.en"}.items():
        (secrets / name).write_text(value + "\n")
    settings = read(gateway_auth=kind, secret_mount_path=str(secrets))

    assert settings.gateway_login == login
    assert not login or login not in repr(settings)


@pytest.mark.parametrize(("kind", "missing"), [("basic", "basic-auth-user"), ("bearer", "gateway-token")])
def test_a_missing_login_is_told_by_name(kind: str, missing: str, secrets: Path) -> None:
    with pytest.raises(ConfigError, match=f"Secret {missing!r} cannot be read at .*list them under the secrets"):
        read(gateway_auth=kind, secret_mount_path=str(secrets))


def test_a_token_that_cannot_stand_in_a_header_is_refused_without_being_told(secrets: Path) -> None:
    (secrets / "gateway-token").write_text("hunter2\r\nX-Evil: 1")
    with pytest.raises(ConfigError, match="Secret 'gateway-token' is no token") as raised:
        read(gateway_auth="bearer", secret_mount_path=str(secrets))

    assert "hunter2" not in str(raised.value)


def test_a_kind_of_login_that_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'gateway_auth' is 'digest'.*'basic', 'bearer' or 'none'"):
        read(gateway_auth="digest")


def test_the_authority_of_the_gateway_is_a_file_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gateway_ca_file' is .*a file that exists"):
        read(gateway_ca_file=str(tmp_path / "none.pem"))


def test_hosts_that_callbacks_may_go_to_are_separated_by_commas_or_spaces() -> None:
    given = "Hooks.example.com, *.team.example.com  10.0.0.*:8080,[::1]"

    assert read(callback_allow=given).callback_allow == (
        "hooks.example.com",
        "*.team.example.com",
        "10.0.0.*:8080",
        "[::1]",
    )


@pytest.mark.parametrize("pattern", ["https://hooks.example.com", "host/path", "user@host", "host:port", "hööks"])
def test_a_pattern_that_is_no_host_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="Setting 'callback_allow' is "):
        read(callback_allow=f"fine.example.com {pattern}")


def test_the_watchdog_is_known_by_what_it_is_given() -> None:
    assert [read(**environ).is_watched for environ in ({}, {"fprocess": "x"}, {"exec_timeout": "9s"})] == [
        False,
        True,
        True,
    ]


def test_an_inspection_tells_every_mistake_once_and_where_each_value_came_from(secrets: Path) -> None:
    found = inspect({"exec_timeout": "soon", "write_timeout": "later", "port": "x", "secret_mount_path": str(secrets)})
    sources = {reading.name: (reading.shown, reading.source) for reading in found.readings}

    assert [str(problem).split("'")[1] for problem in found.problems] == ["exec_timeout", "write_timeout", "port"]
    assert sources["gateway"] == ("http://gateway.openfaas:8080", Source.DEFAULT)
    assert sources["exec_timeout"] == ("soon", Source.ENVIRONMENT)
    assert sources["faasflow-hmac-secret"] == ("****", Source.SECRET)


def test_names_that_nothing_looks_at_are_taken_and_told() -> None:
    environ = {"trace_server": "jaeger:6831", "enable_hmac": "true", "consul_url": "c"}
    found = inspect(UNSIGNED | environ | {"state_store": "memory:"})

    assert not found.problems
    assert {reading.name: reading.note for reading in found.readings if reading.note} == {
        "trace_server": "not used: enable_tracing is false",
        "enable_hmac": "not used",
        "consul_url": "not used: state_store is set",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("etcd://user:pa/s?s@host:2379/x", "etcd://…@host:2379/x"),
        ("consul://token@host?token=abc&dc=east", "consul://…@host?token=****&dc=east"),
        ("s3://host/b?secret_key_file=/run/k&Secret_Key=x", "s3://host/b?secret_key_file=/run/k&Secret_Key=****"),
        ("user:pass@host", "…@host"),
        ("http://user:://@host", "…@host"),
        ("sqlite:///data/a@b.db", "sqlite:///data/a@b.db"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret_in_it(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_nothing_that_an_inspection_shows_is_a_secret(s3_secrets: Path) -> None:
    for name in ("basic-auth-user", "basic-auth-password"):
        (s3_secrets / name).write_text(f"value of {name}")
    environ = {"secret_mount_path": str(s3_secrets), "gateway_auth": "basic", "s3_url": "minio:9000"}
    found = inspect(environ | {"state_store": "consul://hunter2@consul"})

    assert not found.problems
    assert not any(secret in repr(found) for secret in ("s3cr3t", "value of", "hunter2"))


def test_in_kubernetes_state_is_in_consul_and_data_in_s3_unless_a_file_is_asked_for(tmp_path: Path) -> None:
    for name in ("s3-access-key", "s3-secret-key"):
        (tmp_path / name).write_text("key")
    pod = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "validate_request": "false",
        "secret_mount_path": str(tmp_path),
    }

    in_a_pod = Settings.from_environment(pod)
    with_a_file = Settings.from_environment({**pod, "state_dir": str(tmp_path)})
    with_urls = Settings.from_environment({**pod, "state_store": "memory:", "data_store": "memory:"})

    assert in_a_pod.state_store == "consul://consul.faasflow:8500?dc=dc1"
    assert in_a_pod.data_store.startswith("s3://minio.faasflow:9000/faasflow?")
    assert with_a_file.state_store == with_a_file.data_store == f"sqlite://{tmp_path}/flow.db"
    assert with_urls.state_store == with_urls.data_store == "memory:"
