"""How real workflows do on the gateway of the laptop: whether each result is right, what is put in the queue, how long.

Usage: python bench/workflows.py [--requests N] FILE...

Each FILE is a JSON object that maps every task to the tasks that it waits for. A task is a node; its result is a hash
of its name and of the results it waits for, so the result of the flow shows whether each task ran on exactly the right
inputs. Prints one row a file: tasks, messages needed and put, their ratio, seconds. Ends with 1 if a result is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import FLOW, serving

from faasflow.cli.remote import REQUEST_ID, Remote, result_path

HANDLER = """
import hashlib
import json
from pathlib import Path

TASKS = json.loads((Path(__file__).parent / "tasks.json").read_text())


def result(name, inputs):
    return hashlib.sha256(json.dumps([name, inputs], sort_keys=True).encode()).hexdigest()


def ends():
    waited_for = {one for before in TASKS.values() for one in before}
    return sorted(set(TASKS) - waited_for)


def texts(results):
    return json.dumps({name: data.decode() for name, data in results.items()})


def task(name, before):
    def run(data):
        return result(name, json.loads(data) if before else {})

    return run


def define(flow, context):
    dag = flow.dag()
    dag.node("begin").modify(lambda data: data)
    for name, before in TASKS.items():
        dag.node(name, aggregator=texts if before else None).modify(task(name, before))
    dag.node("end", aggregator=texts).modify(lambda data: data)
    for name, before in TASKS.items():
        for one in before:
            dag.edge(one, name)
        if not before:
            dag.edge("begin", name, forward=False)
    for name in ends():
        dag.edge(name, "end")
"""


@contextmanager
def workflow(tasks: str) -> Iterator[tuple[Remote, list[int], dict[str, str]]]:
    """The flow of `tasks`: how to call it, the messages put so far, and the result that is right."""
    with serving({"handler.py": HANDLER, "tasks.json": tasks}) as (gateway, remote):
        put, count = gateway.queue.put, [0]

        def counted(draft, **options):
            count[0] += 1
            return put(draft, **options)

        gateway.queue.put = counted  # type: ignore[method-assign]
        yield remote, count, expected(json.loads(tasks))


def expected(tasks: dict[str, list[str]]) -> dict[str, str]:
    """The results of the tasks that nothing waits for, computed one after the other."""
    results: dict[str, str] = {}
    while len(results) < len(tasks):
        for name, before in tasks.items():
            if name not in results and all(one in results for one in before):
                inputs = {one: results[one] for one in before}
                text = json.dumps([name, inputs], sort_keys=True)
                results[name] = hashlib.sha256(text.encode()).hexdigest()
    waited_for = {one for before in tasks.values() for one in before}
    return {name: results[name] for name in tasks if name not in waited_for}


def measure(path: Path, requests: int, patience: float) -> bool:
    """Run `requests` requests of one workflow at once and print its row; whether all results were right."""
    tasks = json.loads(path.read_text())
    needed = requests * (len(tasks) + 2)
    with workflow(path.read_text()) as (remote, count, right_result):
        began = time.monotonic()
        ids = [remote.call(FLOW, body=b"x").headers[REQUEST_ID] for _ in range(requests)]
        results = [result_of(remote, id, began + patience) for id in ids]
        seconds = time.monotonic() - began
    right = sum(found == right_result for found in results)
    state = "right" if right == requests else f"{requests - right} WRONG"
    row = f"{path.stem:20} {requests:8} {len(tasks):6} {needed:7} {count[0]:7} {count[0] / needed:6.2f} {seconds:8.1f}"
    print(f"{row}  {state}", flush=True)
    return right == requests


def result_of(remote: Remote, id: str, until: float) -> object:
    """The result of a request, once it has ended; `None` if it does not end in time or fails."""
    while time.monotonic() < until:
        answer = remote.call(FLOW, result_path(id), method="GET")
        if answer.status_code == 200:
            return json.loads(answer.content)
        if answer.status_code >= 500 or answer.status_code == 404:
            return None
        time.sleep(0.5)
    return None


def main() -> int:
    """Measure every file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--requests", type=int, default=1, help="how many requests run at once (default: 1)")
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds until a request is given up")
    options = parser.parse_args()
    print(f"{'workflow':20} {'requests':>8} {'tasks':>6} {'needed':>7} {'put':>7} {'ratio':>6} {'seconds':>8}")
    rows = [measure(path, options.requests, options.patience) for path in options.files]
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
