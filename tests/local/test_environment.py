from __future__ import annotations

from pathlib import Path

from faasflow.local import FunctionSpec
from faasflow.local.gateway import function_environment
from faasflow.local.state import StateDir


def environment(lang: str, **own: str) -> dict[str, str]:
    spec = FunctionSpec(name="my-fn", lang=lang, handler=Path("my-fn"), environment=own)
    state = StateDir(Path("/project/.faasflow"))
    return {**function_environment(spec, gateway="http://127.0.0.1:8080", state=state, timeout=60.0)}


def test_a_flow_is_given_the_gateway_the_stores_and_the_secrets_of_the_laptop():
    assert environment("faas-flow") == {
        "OPENFAAS_NAME": "my-fn",
        "gateway": "http://127.0.0.1:8080",
        "workflow_name": "my-fn",
        "state_store": "sqlite:///project/.faasflow/flows/my-fn.db",
        "data_store": "sqlite:///project/.faasflow/flows/my-fn.db",
        "secret_mount_path": "/project/.faasflow/secrets",
        "exec_timeout": "60s",
        "tick_interval": "1s",
        "repair_after": "10s",
    }


def test_what_the_stack_file_sets_beats_the_laptop():
    given = environment("faas-flow", state_store="consul://127.0.0.1:8500", exec_timeout="5m", mine="1")

    assert (given["state_store"], given["exec_timeout"], given["mine"]) == ("consul://127.0.0.1:8500", "5m", "1")
    assert given["data_store"].startswith("sqlite:")


def test_a_plain_function_is_given_its_name_and_what_the_stack_file_sets():
    assert environment("python3-http", mine="1") == {"OPENFAAS_NAME": "my-fn", "mine": "1"}
