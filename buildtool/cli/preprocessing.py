"""Templates and includes of a Buildfile on the command line: which variables there are, how files are read."""

from __future__ import annotations

import os

from buildtool.encoding import decode_file
from buildtool.errors import BuildtoolError, InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildtool.buildfile.include import Included
    from buildtool.cli.build_input import BuildInput
    from buildtool.cli.call import Call


def make_plain(call: Call, source: BuildInput) -> None:
    """Put a plain Buildfile in the place of one with a template or includes.

    `source.path` is emptied then: the file in the context is not the text to build.
    """
    if source.elsewhere:
        return
    from buildtool.cli.build_request import build_arguments

    variables = template_variables(call, build_arguments(call.texts("build-arg")))
    text = plain_text(source.text, source.name, source.path, variables)
    if text != source.text:
        source.text, source.path = text, ""


def plain_text(text: str, name: str, path: str, variables: Mapping[str, object]) -> str:
    """The plain Buildfile that `text` stands for; itself when it is one. `path` is "" for what came by STDIN."""
    lowered = text.lower()
    if "include" not in lowered and "jinja2" not in lowered and not name.endswith(".j2"):
        return text
    from buildtool.buildfile.preprocess import preprocess

    identity = os.path.realpath(path) if path else os.path.join(os.getcwd(), "<stdin>")
    return preprocess(text, name, identity, variables, _Loader(variables).load)


def template_variables(call: Call, build_args: Mapping[str, str | None]) -> dict[str, object]:
    """Build args, then what --var-file files say, then --var: what comes later counts."""
    variables: dict[str, object] = {name: value for name, value in build_args.items() if value is not None}
    for path in call.texts("var-file"):
        variables |= _read_variables(path)
    for item in call.texts("var"):
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise InvalidInput(f"invalid --var {item!r}: write NAME=VALUE")
        variables[name] = value
    return variables


def _read_variables(path: str) -> dict[str, object]:
    import yaml

    try:
        with open(path, "rb") as file:
            found = yaml.safe_load(file)
    except OSError as error:
        raise BuildtoolError(f"--var-file {path}: {os.strerror(error.errno or 0).lower()}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--var-file {path}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"--var-file {path}: it has to be a mapping of names to values")
    return found


class _Loader:
    """Reads included files: beside the file that includes them, or from http(s)."""

    def __init__(self, variables: Mapping[str, object]) -> None:
        self._variables = variables

    def load(self, path: str, includer: str) -> Included:
        from buildtool.buildfile.preprocess import included
        from buildtool.documents import is_document_url, read_document

        if is_document_url(path) or is_document_url(includer):
            from urllib.parse import urljoin

            identity = name = urljoin(includer, path) if is_document_url(includer) else path
            data = read_document(identity)
        else:
            joined = os.path.join(os.path.dirname(includer), path)
            identity, name = os.path.realpath(joined), os.path.relpath(joined)
            data = _read(joined, name)
        return included(name, identity, data, decode_file(data, name), self._variables)


def _read(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound(f"{name}: no such file", hint="the path is relative to the file that includes it") from None
    except OSError as error:
        raise BuildtoolError(f"{name}: {os.strerror(error.errno or 0).lower()}") from None
