from __future__ import annotations

from tests.cluster.fixtures import cluster, nats_server
from tests.servers.fixtures import consul_server, etcd_server, seaweed_server

__all__ = ["cluster", "consul_server", "etcd_server", "nats_server", "seaweed_server"]
