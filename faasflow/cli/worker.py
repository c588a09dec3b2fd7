"""`faasflow worker`: delivers the forwards that wait in NATS JetStream."""

from __future__ import annotations

import click

from faasflow.cli.options import duration, gateway_option


@click.command(short_help="Deliver the forwards that wait in NATS JetStream.")
@click.option(
    "--nats",
    metavar="URL",
    envvar="dispatcher",
    required=True,
    help="Where they wait, as in the flows' setting dispatcher (default: $dispatcher).",
)
@gateway_option
@click.option("--flow", "flows", metavar="NAME", multiple=True, help="A flow to deliver to (default: every flow).")
@click.option(
    "--in-flight", type=click.IntRange(1, 512), default=16, help="Deliveries of a flow at a time (default: 16)."
)
@click.option(
    "--ack-wait",
    type=duration,
    default="30s",
    metavar="DURATION",
    help="How long a lost worker keeps its messages from the others (default: 30s).",
)
def worker(nats: str, gateway: str, flows: tuple[str, ...], in_flight: int, ack_wait: float) -> None:
    """Deliver the forwards that flows put into a JetStream stream (setting dispatcher) to those flows, until SIGTERM.

    Several may run side by side: each message goes to one of them. What a worker that ends has not finished within 25
    seconds goes to another one, as does what a worker had that was killed. Where the gateway wants a login, the
    environment has gateway_auth and its secrets, as that of a flow; log_level and log_format as well.

    \b
    Examples:
      faasflow worker --nats nats://127.0.0.1:4222
      faasflow worker --nats 'nats://me@nats:4222?password_file=secret' \\
        --gateway http://gateway.openfaas:8080 --flow orders --in-flight 4
    """
    import logging
    import os

    from faasflow import logs
    from faasflow.config import gateway_access, log_settings
    from faasflow.transport.jetstream import Address
    from faasflow.transport.openfaas import OpenFaasTransport
    from faasflow.transport.worker import Limits, Worker

    address = Address.from_url(nats)
    login, ca_file = gateway_access(os.environ)
    with logs.configured(*log_settings(os.environ)):
        logging.getLogger(__name__).info("Delivering from stream %r at %s to %s.", address.stream, address, gateway)
        calls = OpenFaasTransport(gateway, threads=in_flight * max(1, len(flows)), login=login, ca_file=ca_file)
        Worker(address, calls, flows=flows, limits=Limits(in_flight=in_flight, ack_wait=ack_wait)).run()
