"""What of-watchdog starts: serves the flow of function/handler.py with waitress, drains on SIGTERM and ends with 0."""

from pathlib import Path

from faasflow.runtime import serve

if __name__ == "__main__":
    serve(Path(__file__).parent / "function")
