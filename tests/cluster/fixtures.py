"""The fixture `cluster`: Consul, S3, a gateway and a flow in two processes, started once in a test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.installation import Cluster, running_cluster
from tests.servers.consul import ConsulServer
from tests.servers.seaweed import SeaweedServer


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, consul_server: ConsulServer, seaweed_server: SeaweedServer
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, state_store=consul_server.url, data_store=seaweed_server.url()) as cluster:
        yield cluster
