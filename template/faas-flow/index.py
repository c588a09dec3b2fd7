"""What of-watchdog starts: serves the flow of function/handler.py on port 5000, drains on SIGTERM and exits with 0."""

import sys
from pathlib import Path

from faasflow.errors import FaasflowError
from faasflow.runtime import serve


def main():
    try:
        serve(Path(__file__).parent / "function")
    except FaasflowError as error:
        sys.exit(f"faasflow: error: {error} {error.hint}".rstrip())


if __name__ == "__main__":
    main()
