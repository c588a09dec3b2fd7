"""The secrets of functions on the laptop: files of the state folder, which also stand where functions look for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from faasflow.local.stack import FunctionSpec

MOUNT = Path("/var/openfaas/secrets")

_PATH = "secret_mount_path"


class SecretMounts:
    """Links to the secrets of `source`, for functions that read them at `mount` or where their `secret_mount_path`
    says. A flow reads them from `source` itself, unless its stack file sets that path."""

    def __init__(self, specs: Iterable[FunctionSpec], *, source: Path, mount: Path = MOUNT) -> None:
        self._specs = [spec for spec in specs if spec.is_hosted]
        self._source = source.absolute()
        self._mount = mount
        self._links: list[Path] = []

    def make(self) -> list[str]:
        """Make the links; what is missing, and what could not be linked, with the way out."""
        return [*self._missing(), *self._linked()]

    def remove(self) -> None:
        """Remove the links that were made. Calling it again is fine."""
        while self._links:
            self._links.pop().unlink(missing_ok=True)

    def _missing(self) -> Iterator[str]:
        for spec in self._specs:
            for name in spec.secrets:
                if not (self._source / name).is_file() and not (self._place(spec) / name).is_file():
                    yield (
                        f"{spec.name}: its secret {name!r} is missing; make it with: "
                        f"printf %s VALUE > {self._source / name}"
                    )

    def _linked(self) -> Iterator[str]:
        wanted = {(self._place(spec), name) for spec in self._specs for name in spec.secrets}
        for folder in sorted({folder for folder, _ in wanted if folder != self._source}):
            names = sorted(name for place, name in wanted if place == folder and (self._source / name).is_file())
            try:
                for name in names:
                    self._link(folder, name)
            except OSError as error:
                yield (
                    f"secrets cannot be put into {folder} ({error.strerror}), so only functions that read "
                    f"$secret_mount_path find them. Once: sudo mkdir -p {folder} && sudo chown $USER {folder}"
                )

    def _link(self, folder: Path, name: str) -> None:
        link, target = folder / name, self._source / name
        if link.is_symlink() and (link.readlink() == target or not link.exists()):
            link.unlink()  # ours, or left behind by a state folder that is gone
        elif link.exists():
            return  # somebody put it there, who will know why
        folder.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        self._links.append(link)

    def _place(self, spec: FunctionSpec) -> Path:
        given = spec.environment.get(_PATH)
        return Path(given) if given else self._source if spec.is_flow else self._mount
