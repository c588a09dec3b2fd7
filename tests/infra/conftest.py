from __future__ import annotations

import pytest
import yaml

from tests.infra.support import Resource, build


@pytest.fixture(scope="session")
def resources(tmp_path_factory: pytest.TempPathFactory) -> list[Resource]:
    """All that `kubectl apply -k` would send."""
    built = build(tmp_path_factory.mktemp("manifests") / "kubernetes")
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))
