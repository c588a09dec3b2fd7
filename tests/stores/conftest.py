from __future__ import annotations

import pytest

from tests.servers.fixtures import certificates, consul_server, etcd_server, redis_server, run_server, seaweed_server

__all__ = ["certificates", "consul_server", "etcd_server", "redis_server", "run_server", "seaweed_server"]

pytest.register_assert_rewrite("faasflow.testing.contracts")
