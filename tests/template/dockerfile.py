"""Reads a Dockerfile into stages of instructions, as far as tests look at them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One line of a stage, continuation lines joined. `words` are those behind the keyword, without `--flags`."""

    keyword: str
    text: str

    @property
    def words(self) -> list[str]:
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    def flag(self, name: str) -> str:
        found = re.search(rf"--{name}=(\S+)", self.text)
        return found[1] if found else ""


@dataclass
class Stage:
    """A stage by its name; `base` is the image or the stage that it is built from."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]


@dataclass(frozen=True)
class Dockerfile:
    """`arguments` stand before the first stage."""

    arguments: list[Instruction]
    stages: dict[str, Stage]

    def chain(self, name: str) -> list[Stage]:
        """The stages that `name` is built from, lowest first, and itself."""
        stage = self.stages.get(name)
        return [*self.chain(stage.base), stage] if stage else []

    def needed(self, name: str) -> set[str]:
        """The stages that are built when `name` is asked for."""
        stage = self.stages.get(name)
        if stage is None:
            return set()
        others = [stage.base, *(copy.flag("from") for copy in stage.all("COPY"))]
        return {name}.union(*map(self.needed, others))


def read_dockerfile(path: Path) -> Dockerfile:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    file = Dockerfile(arguments=[], stages={})
    current = file.arguments
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        keyword, _, text = line.partition(" ")
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            file.stages[name] = Stage(name, base)
            current = file.stages[name].instructions
        else:
            current.append(Instruction(keyword, text.strip()))
    return file
