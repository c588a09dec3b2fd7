"""Runs the clock of every flow on the gateway, once each time it is called: by the cron-connector, for example.

The flows are those of the variable `flows` (names with commas between), else those that the gateway lists with the
label `faas-flow: "1"`. For its list a gateway wants a login, from the secrets `basic-auth-user` and
`basic-auth-password`. With the secret `faasflow-hmac-secret` its calls are signed, which flows with
`authenticate_request` ask for.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

AT_ONCE = 8
TICK = "/flow/tick"
TIMEOUT = 40.0  # below the exec_timeout in flow-clock.yml

_gateway = build_opener(ProxyHandler({}))


def handle(event, context):
    """200 with what every flow answered, as JSON; 502 if one of them, or the list of them, could not be had."""
    try:
        flows = _named() or _listed()
    except (OSError, ValueError) as error:
        return _answer(502, {"error": f"The gateway did not list its functions: {_reason(error)}", "hint": _WAY_OUT})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ticked = dict(zip(flows, pool.map(_tick, flows), strict=True))
    has_failed = any("error" in done for done in ticked.values())
    return _answer(502 if has_failed else 200, ticked)


def _named():
    return [name for name in re.split(r"[,\s]+", _setting("flows")) if name]


def _listed():
    functions = _send("GET", "/system/functions", _login())
    return sorted(one["name"] for one in functions if (one.get("labels") or {}).get("faas-flow") == "1")


def _tick(flow):
    try:
        return _send("POST", f"/function/{quote(flow, safe='')}{TICK}", _signature(flow))
    except (OSError, ValueError) as error:
        return {"error": _reason(error)}


def _send(method, path, headers):
    url = _setting("gateway", "http://gateway.openfaas:8080")
    url = url if "://" in url else f"http://{url}"
    body = b"" if method == "POST" else None
    with _gateway.open(Request(url.rstrip("/") + path, body, headers, method=method), timeout=TIMEOUT) as answer:
        return json.load(answer)


def _login():
    user, password = _secret("basic-auth-user"), _secret("basic-auth-password")
    if not user or not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(user + b":" + password).decode()}


def _signature(flow):
    secret = _secret("faasflow-hmac-secret")
    if not secret:
        return {}
    now = int(time.time())
    key = hmac.new(secret, b"faasflow request", hashlib.sha256).hexdigest().encode()
    signed = f"{now}\n{flow.partition('.')[0]}\nPOST\n{TICK}\n\n".encode()
    return {"X-Faas-Flow-Signature": f"t={now},v1={hmac.new(key, signed, hashlib.sha256).hexdigest()}"}


def _secret(name):
    file = Path(_setting("secret_mount_path", "/var/openfaas/secrets")) / name
    return file.read_bytes().strip() if file.is_file() else b""


def _setting(name, default=""):
    return os.environ.get(name) or default


def _reason(error):
    if not isinstance(error, HTTPError):
        return str(getattr(error, "reason", error))
    said = error.read().decode("utf-8", "replace").strip()
    return f"{error.code}: {said}" if said else str(error.code)


def _answer(status, value):
    body = json.dumps(value, indent=2) + "\n"
    return {"statusCode": status, "body": body, "headers": {"Content-Type": "application/json"}}


_WAY_OUT = "Name the flows in the variable 'flows', or mount the secrets basic-auth-user and basic-auth-password."
