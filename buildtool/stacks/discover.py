"""Finding a stack: which files, which directory, which environment.

Source: reference/stacks.md 1.1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from buildtool.errors import InvalidInput, NotFound
from buildtool.stacks.envfile import parse_env_file
from buildtool.stacks.model import Request
from buildtool.stacks.paths import is_remote
from buildtool.stacks.reading import STDIN, FileSystem

DEFAULT_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


def find_request(
    *,
    files: list[str],
    directory: str = "",
    name: str = "",
    profiles: list[str] | None = None,
    env_files: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
    reader: FileSystem | None = None,
    fetch: Callable[[str], str] | None = None,
) -> Request:
    """What the flags and the environment say is to be loaded; the switches of `config` keep their defaults.

    Raises NotFound when there is no stack here, and InvalidInput for files that cannot be read.
    """
    reader = reader or FileSystem()
    process = dict(os.environ if environment is None else environment)
    base = os.path.abspath(directory) if directory else ""  # noqa: PTH100
    chosen = [_located(item, fetch) for item in files or _from_environment(process)]
    if not chosen and base:
        chosen = _beside(reader, base)
    own, origins = _dot_env(reader, base or _first_directory(chosen), env_files, process)
    if not chosen:
        chosen = [_located(item, fetch) for item in _from_environment(own)]
    if not chosen:
        chosen = _look_upwards(reader)
        own, origins = _dot_env(reader, base or _first_directory(chosen), env_files, process)
    everything = {**own, **process}
    wanted = profiles or [item for item in everything.get("COMPOSE_PROFILES", "").split(",") if item.strip()]
    request = Request(
        chosen,
        base or _first_directory(chosen),
        name=name,
        environment=everything,
        profiles=[item.strip() for item in wanted],
    )
    request.origins = origins
    return request


def _from_environment(environment: Mapping[str, str]) -> list[str]:
    separator = environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return [item for item in environment.get("COMPOSE_FILE", "").split(separator) if item]


def _located(path: str, fetch: Callable[[str], str] | None) -> str:
    """An absolute path of the file; a stack that is elsewhere is fetched."""
    if path.startswith("oci:") or is_remote(path):
        if fetch is None:
            raise InvalidInput(f"cannot load {path}: it is not on this machine")
        return fetch(path)
    return path if path == STDIN else os.path.abspath(path)  # noqa: PTH100


def _first_directory(files: list[str]) -> str:
    if not files or files[0] == STDIN:
        return os.getcwd()  # noqa: PTH109
    return os.path.dirname(os.path.abspath(files[0]))  # noqa: PTH100, PTH120


def _look_upwards(reader: FileSystem) -> list[str]:
    here = os.getcwd()  # noqa: PTH109
    folder = here
    while True:
        found = _beside(reader, folder)
        if found:
            return found
        parent = os.path.dirname(folder)  # noqa: PTH120
        if parent == folder:
            raise NotFound(
                "no configuration file provided: not found",
                hint=f"There is none of {', '.join(DEFAULT_NAMES)} in {here} or above. Name a file with -f FILE.",
            )
        folder = parent


def _beside(reader: FileSystem, folder: str) -> list[str]:
    """The stack's file in a folder, and its override file."""
    names = [name for name in DEFAULT_NAMES if reader.exists(f"{folder}/{name}")]
    if not names:
        return []
    stem = names[0].rpartition(".")[0]
    candidates = [f"{folder}/{stem}.override.{ending}" for ending in ("yml", "yaml")]
    overrides = [path for path in candidates if reader.exists(path)]
    return [f"{folder}/{names[0]}", *overrides[:1]]


def _dot_env(
    reader: FileSystem, folder: str, env_files: list[str] | None, process: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, list[tuple[str, str]]]]:
    """The variables of `--env-file`, COMPOSE_ENV_FILES, or the project directory's `.env`; later files win.

    And for each of them the files that have it, with the value there.
    """
    names = env_files or [item for item in process.get("COMPOSE_ENV_FILES", "").split(",") if item]
    required = bool(names)
    if not names:
        if process.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true", "yes"):
            return {}, {}
        names = [f"{folder}/.env"]
        if not reader.exists(names[0]) and folder != os.getcwd():  # noqa: PTH109
            names = [f"{os.getcwd()}/.env"]  # noqa: PTH109
    found: dict[str, str] = {}
    origins: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        try:
            text = reader.read(os.path.abspath(name))  # noqa: PTH100
        except OSError as error:
            if not required:
                continue
            raise NotFound(f"couldn't find env file: {name}: {(error.strerror or str(error)).lower()}") from error
        read = parse_env_file(text, name, {**found, **process}, lambda _variable: None)
        for key, value in read.items():
            origins.setdefault(key, []).append((name, value))
        found |= read
    return found, origins
