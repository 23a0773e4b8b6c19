"""Print requirements.txt: the installed version of everything that `choreo[dev]` needs, directly or not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = (
    "# Everything `make setup` installs, pinned. Made by `make requirements`; compared with pyproject.toml in a test.\n"
)


# Wheels of Linux alone: on a Mac the part they belong to comes with the package itself.
LINUX = {"mlx-cpu"}


def closure() -> dict[str, str]:
    """Canonical name -> version of every requirement of choreo with its extra `dev`, transitively."""
    found: dict[str, str] = {}
    todo = [("choreo", frozenset({"dev"}))]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue  # a requirement of another platform
        if canonicalize_name(name) != "choreo":
            found[canonicalize_name(name)] = dist.version.split("+")[0]
        for line in dist.requires or []:
            need = Requirement(line)
            if (
                need.marker is None
                or any(need.marker.evaluate({"extra": e}) for e in extras or {""})
                or need.marker.evaluate({"extra": ""})
            ):
                todo.append((need.name, frozenset(need.extras)))
    return found


def line(name: str, version: str) -> str:
    """A pin, with the system that it is for where there is one only."""
    where = '; sys_platform == "linux"' if name in LINUX else ""
    return f"{name}=={version}{where}\n"


def text() -> str:
    """The content of requirements.txt."""
    return HEADER + "".join(sorted(line(name, version) for name, version in closure().items()))


if __name__ == "__main__":
    print(text(), end="")
