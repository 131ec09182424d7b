"""From files to a project: parse, interpolate, check, extend and merge, include, normalise, check again.

Everything is a function of the texts and the environment; reading goes through `Files`.
Source: reference/stacks.md 1.2.
"""

from __future__ import annotations

import os
import re

from buildtool.errors import InvalidInput
from buildtool.stacks.consistency import check_consistency
from buildtool.stacks.envfile import parse_env_file
from buildtool.stacks.extends import apply_extends
from buildtool.stacks.hints import hints
from buildtool.stacks.interpolation import interpolate
from buildtool.stacks.kinds import At
from buildtool.stacks.merge import merge, settle
from buildtool.stacks.model import Files, Project, Request
from buildtool.stacks.normalise import normalise, resolve_environment
from buildtool.stacks.paths import absolute, resolve_model
from buildtool.stacks.profiles import filter_profiles, prune_resources
from buildtool.stacks.schema import FILE, RESOURCES
from buildtool.stacks.tree import Map, Path, StackError, plain
from buildtool.stacks.yamlfile import parse

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def load(request: Request, files: Files) -> Project:
    """The project. Raises StackError (with file, line, column and path) for whatever is wrong with it."""
    warnings = _Warnings()
    raw = [(name, parse(_read(name, files), name)) for name in request.files]
    name = _project_name(request, raw, warnings)
    request.environment.setdefault("COMPOSE_PROJECT_NAME", name)
    model = _Loader(request, files, warnings, request.directory, request.environment).merged(raw)
    model.put("name", name, model.marks.get("name"))
    project = Project(name, model, request)
    if request.normalise:
        normalise(project)
    if request.resolve_environment:
        resolve_environment(project, files, warnings.say)
    if request.consistent:
        check_consistency(project)
    filter_profiles(project)
    if not request.all_resources:
        prune_resources(project)
    for text in hints(project):
        warnings.say(text)
    project.warnings = warnings.said
    return project


def raw_model(request: Request, files: Files) -> Map:
    """The merged files without interpolation and before everything that follows (`config --variables`)."""
    loader = _Loader(request, files, _Warnings(), request.directory, request.environment, interpolating=False)
    return loader.merged([(name, parse(_read(name, files), name)) for name in request.files])


class _Warnings:
    """Each warning once, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Take a warning."""
        if text not in self.said:
            self.said.append(text)

    def unset(self, variable: str) -> None:
        """A variable has no value."""
        self.say(f'The "{variable}" variable is not set. Defaulting to a blank string.')


def normalise_name(text: str) -> str:
    """A project's name made of a folder's: lower case, only letters, digits, `-` and `_`, these two not first."""
    return re.sub(r"[^a-z0-9_-]", "", text.lower()).lstrip("_-")


def _project_name(request: Request, raw: list[tuple[str, list[Map]]], warnings: _Warnings) -> str:
    for source, name in (("--project-name", request.name), ("COMPOSE_PROJECT_NAME", _from_environment(request))):
        if name:
            return _valid_name(name, InvalidInput(_name_problem(name), hint=f"It comes from {source}."))
    found = ""
    for _, documents in raw:
        for document in documents:
            value = document.get("name")
            if isinstance(value, str) and value:
                copy = Map(document.mark)
                copy.put("name", value, document.place("name"))
                if request.interpolate:
                    interpolate(copy, request.environment, warnings.unset)
                found = copy["name"]
                _valid_name(found, StackError(("name",), _name_problem(found), copy.place("name")))
    name = found or normalise_name(os.path.basename(request.directory))  # noqa: PTH119
    if not name:
        raise InvalidInput("project name must not be empty", hint="Give one with -p, or as `name:` in the file.")
    return name


def _from_environment(request: Request) -> str:
    return request.environment.get("COMPOSE_PROJECT_NAME", "")


def _name_problem(name: str) -> str:
    return (
        f"invalid project name {name!r}: must consist only of lowercase alphanumeric characters, hyphens, and "
        "underscores as well as start with a letter or number"
    )


def _valid_name(name: str, otherwise: InvalidInput) -> str:
    if not _NAME.fullmatch(name) and "$" not in name:
        raise otherwise
    return name


def _read(name: str, files: Files) -> str:
    try:
        return files.read(name)
    except OSError as error:
        raise InvalidInput(f"open {name}: {(error.strerror or str(error)).lower()}") from error


class _Loader:
    """Loads the files of one project directory; included projects get a loader of their own."""

    def __init__(
        self,
        request: Request,
        files: Files,
        warnings: _Warnings,
        directory: str,
        environment: dict[str, str],
        *,
        interpolating: bool | None = None,
        including: tuple[str, ...] = (),
    ) -> None:
        self._request = request
        self._files = files
        self._warnings = warnings
        self._directory = directory
        self._environment = environment
        self._interpolating = request.interpolate if interpolating is None else interpolating
        self._including = including
        self._opened: dict[str, Map] = {}

    def merged(self, raw: list[tuple[str, list[Map]]]) -> Map:
        """All documents merged, with what they include, tags used up and paths absolute."""
        model = Map()
        for name, documents in raw:
            if not documents and len(raw) == 1:
                raise InvalidInput(f"{name}: empty compose file")
            for document in documents:
                checked = self._check(document)
                if "version" in checked:
                    self._warnings.say(
                        f"{name}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid "
                        "potential confusion"
                    )
                    del checked["version"]
                apply_extends(checked, name, self._directory, self._open, self._path_base)
                model = merge(model, checked)
        model = settle(model)
        assert isinstance(model, Map)
        includes = model.pop("include", None) or []
        if self._request.resolve_paths:
            resolve_model(model, self._directory)
        elif self._directory != self._request.directory:
            resolve_model(model, os.path.relpath(self._directory, self._request.directory))
        for index, entry in enumerate(includes):
            self._include(model, entry, ("include", index))
        return model

    def _path_base(self, folder: str) -> str:
        """What the paths of a service of another folder are put behind: that folder, from here unless absolute."""
        return folder if self._request.resolve_paths else os.path.relpath(folder, self._directory)

    def _check(self, document: Map) -> Map:
        if self._interpolating:
            interpolate(document, self._environment, self._warnings.unset)
        checked = FILE.check(document, At(document.mark, lenient=not self._interpolating))
        assert isinstance(checked, Map)
        for kind in RESOURCES:
            part = checked.get(kind)
            if isinstance(part, Map) and kind != "services":
                for key in [key for key, value in part.items() if value is None]:
                    part[key] = Map(part.place(key))
        return checked

    def _open(self, path: str, problem: StackError) -> Map:
        if path not in self._opened:
            try:
                text = self._files.read(path)
            except OSError as error:
                problem.args = (f"{problem.args[0]}: {(error.strerror or str(error)).lower()}",)
                problem.message = problem.args[0]
                raise problem from error
            model = Map()
            for document in parse(text, path):
                model = merge(model, self._check(document))
            self._opened[path] = model
        return self._opened[path]

    def _include(self, model: Map, entry: Map, path: Path) -> None:
        names = [absolute(item, self._directory) for item in entry["path"] or []]
        if not names:
            raise StackError(path, "path is missing", entry.mark)
        circle = next((name for name in names if name in self._including), None)
        if circle is not None:
            trail = " -> ".join((*self._including, circle))
            raise StackError(path, f"include cycle detected: {trail}", entry.place("path"))
        folder = os.path.dirname(names[0])  # noqa: PTH120
        if entry.get("project_directory"):
            folder = absolute(entry["project_directory"], self._directory)
        environment = self._included_environment(entry, folder, path)
        raw = []
        for name in names:
            try:
                raw.append((name, parse(self._files.read(name), name)))
            except OSError as error:
                problem = f"cannot read {name}: {(error.strerror or str(error)).lower()}"
                raise StackError(path, problem, entry.place("path")) from error
        inner = _Loader(
            self._request,
            self._files,
            self._warnings,
            folder,
            environment,
            interpolating=self._interpolating,
            including=(*self._including, *self._request.files, *names),
        )
        _import(model, inner.merged(raw), path)

    def _included_environment(self, entry: Map, folder: str, path: Path) -> dict[str, str]:
        """The included project's own variables, below those of the including one."""
        own: dict[str, str] = {}
        names = [absolute(item, self._directory) for item in entry.get("env_file") or []]
        if not names:
            default = os.path.join(folder, ".env")  # noqa: PTH118
            names = [default] if self._files.exists(default) else []
        for name in names:
            if name == os.devnull:
                continue
            try:
                text = self._files.read(name)
            except OSError as error:
                problem = f"cannot read {name}: {(error.strerror or str(error)).lower()}"
                raise StackError((*path, "env_file"), problem, entry.place("env_file")) from error
            own |= parse_env_file(text, name, {**own, **self._environment}, self._warnings.unset)
        return {**own, **self._environment}


def _import(model: Map, included: Map, path: Path) -> None:
    """Put an included project's resources into the model. The same name for something else is an error."""
    for kind in RESOURCES:
        part = included.get(kind)
        if not isinstance(part, Map):
            continue
        target = model.get(kind)
        if not isinstance(target, Map):
            target = Map(part.mark)
            model.put(kind, target, part.mark)
        for key, value in part.items():
            if key in target and plain(target[key]) != plain(value):
                raise StackError((kind, key), "conflicts with imported resource", target.place(key))
            target.put(key, value, part.place(key))
    for key, value in included.items():
        if key.startswith("x-") and key not in model:
            model.put(key, value, included.place(key))
