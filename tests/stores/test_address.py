"""A store URL says where a server is, and a mistake in it is told without what is secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from faasflow.errors import ConfigError
from faasflow.stores import open_state_store
from faasflow.stores.address import Tls, parse_address, read_secret

FORM = "'shop://[USER@]HOST[:PORT][/NUMBER][?colour=NAME]'"


def parse(url: str):  # type: ignore[no-untyped-def]
    return parse_address(url, form=FORM, port=80, options=("colour", "secret_file"), path=r"\d+")


def test_a_url_gives_host_port_user_password_path_and_options() -> None:
    address = parse("shop://a%40b:c%2Fd@host:81/7?colour=deep%20red")

    assert (address.host, address.port, address.path) == ("host", 81, "7")
    assert (address.user, address.password) == ("a@b", "c/d")
    assert address.options == {"colour": "deep red"}
    assert address.tls is None


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("shop://host", "host", 80),
        ("shop://host/", "host", 80),
        ("shop://10.0.0.1:8500", "10.0.0.1", 8500),
        ("shop://[::1]:8500", "::1", 8500),
        ("shop://consul.openfaas.svc.cluster.local:8500/", "consul.openfaas.svc.cluster.local", 8500),
    ],
)
def test_what_is_left_out_has_a_default(url: str, host: str, port: int) -> None:
    address = parse(url)

    assert (address.host, address.port) == (host, port)
    assert (address.path, address.user, address.password, address.options) == ("", "", "", {})


def test_an_s_behind_the_scheme_is_tls_with_its_files() -> None:
    address = parse("shops://host?ca_file=/ca.pem&cert_file=/cert.pem&key_file=/key.pem&colour=red")

    assert address.tls == Tls("/ca.pem", "/cert.pem", "/key.pem")
    assert address.options == {"colour": "red"}
    assert parse("shops://host").tls == Tls()


@pytest.mark.parametrize(
    "url",
    [
        *("shop:", "shop://", "shop://user@", "shop:host", "shop://host:0", "shop://host:99999", "shop://host:port"),
        *("shop://host/a", "shop://host/7/", "shop://host/7/8", "shop://host#a", "shop://[::1"),
        *("shop://host?colour", "shop://host?colour=", "shop://host?colour=a&colour=b", "shop://host?size=1"),
        *("shop://host?ca_file=/a", "shop://host?tls=true"),
    ],
)
def test_any_other_url_is_refused_with_the_form(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)

    assert repr(url.replace("user@", "…@")) in caught.value.message
    assert FORM in caught.value.message


def test_a_secret_in_a_url_is_not_told() -> None:
    for url in ("consul://t0ken@host/path", "etcd://user:pa55@host?x=1", "redis://:pa55@host/a", "other://u:pa55@host"):
        with pytest.raises(ConfigError) as caught:
            open_state_store(url)
        assert "t0ken" not in str(caught.value)
        assert "pa55" not in str(caught.value)
        assert "…@host" in str(caught.value)
    assert "pa55" not in repr(parse("shop://user:pa55@host"))


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" from the file\n")

    assert read_secret(parse(f"shop://host?secret_file={file}"), "secret_file") == "from the file"
    assert read_secret(parse("shop://host"), "secret_file") == ""


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_a_secret_file_that_is_no_secret_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"secret_file '{file}'"):
        read_secret(parse(f"shop://host?secret_file={file}"), "secret_file")


@pytest.mark.parametrize("scheme", ["consuls", "etcds", "rediss"])
def test_tls_files_that_cannot_be_used_are_told(tmp_path: Path, scheme: str) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not PEM")

    for option in ("ca_file", "cert_file"):
        for file in (wrong, tmp_path / "missing.pem"):
            with pytest.raises(ConfigError, match=f"TLS cannot be set up with '{file}'"):
                open_state_store(f"{scheme}://host?{option}={file}")


def test_a_key_without_a_certificate_is_told() -> None:
    with pytest.raises(ConfigError, match="no cert_file"):
        open_state_store("consuls://host?key_file=/key.pem")
