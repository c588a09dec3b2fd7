"""`python -m faasflow.local [STACK]`: the embedded gateway in the foreground."""

from __future__ import annotations

import argparse
import sys

from faasflow.errors import GatewayError
from faasflow.local.elsewhere import remote_gateway
from faasflow.local.platform import up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m faasflow.local", description="Host the functions of a stack file.")
    parser.add_argument("stack", nargs="?", default=".", help="stack.yml, or the folder it is in")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--state-dir")
    parser.add_argument("--reload", action="store_true", help="restart a function when its files change")
    parser.add_argument("--workers", type=int, default=8, help="asynchronous calls delivered at a time")
    parser.add_argument("--allow-host", action="append", default=[], help="another host name of this gateway")
    parser.add_argument("--install", action="store_true", help="install each function's requirements.txt first")
    parser.add_argument("--remote", metavar="URL", help="gateway that is called for what is not hosted here")
    options = parser.parse_args()
    try:
        up(
            options.stack,
            port=options.port,
            state_dir=options.state_dir,
            reload=options.reload,
            workers=options.workers,
            allow_hosts=options.allow_host,
            install=options.install,
            remote=None if options.remote is None else remote_gateway(options.remote),
            say=lambda line: print(line, flush=True),
        )
    except GatewayError as error:
        print(f"faasflow: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
