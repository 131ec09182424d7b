"""Short forms of the Compose specification and the long forms they stand for."""

from __future__ import annotations

import re
from typing import Any

from buildtool.stacks.kinds import At
from buildtool.stacks.scalars import to_text
from buildtool.stacks.tree import Map, Override, Reset, Seq, StackError

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CONSISTENCIES = ("consistent", "cached", "delegated")
_PROTOCOLS = ("tcp", "udp", "sctp")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:\\")


def mapping(at: At, **fields: Any) -> Map:
    """A long form made of a short one: all its keys stand where the short form stands. None leaves a key out."""
    out = Map(at.mark)
    for key, value in fields.items():
        if value is not None:
            out.put(key, value, at.mark)
    return out


def sequence(at: At, items: list[Any]) -> Seq:
    """A list whose items all stand where its short form stands."""
    out = Seq(at.mark)
    for item in items:
        out.add(item, at.mark)
    return out


def port(value: Any, at: At) -> list[Any]:
    """`[[ip:]published:]target[/protocol]`, with ranges, as one long form a port."""
    if isinstance(value, dict):
        return [value]
    if at.leave(value):
        return [value]
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise at.refuse("must be a string, a number or a mapping")
    text = str(value)
    rest, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise at.refuse(f"invalid protocol {protocol!r} in {text!r}", "Choose from tcp, udp and sctp.")
    ip, published, target = _port_parts(rest)
    if ip and not _is_address(ip):
        raise at.refuse(f"invalid IP address {ip!r} in {text!r}")
    first, last = _range(target, text, at)
    if not published:
        host: list[str | None] = [None] * (last - first + 1)
    else:
        low, high = _range(published, text, at, zero=True)
        if high - low == last - first:
            host = [str(number) for number in range(low, high + 1)]
        elif first == last:
            host = [published]
        else:
            raise at.refuse(f"the ranges in {text!r} do not have the same length")
    return [
        mapping(at, mode="ingress", host_ip=ip or None, target=number, published=out, protocol=protocol)
        for number, out in zip(range(first, last + 1), host, strict=True)
    ]


def _port_parts(text: str) -> tuple[str, str, str]:
    rest, _, target = text.rpartition(":")
    ip, separator, published = rest.rpartition(":")
    if not separator:
        return "", rest, target
    return ip.removeprefix("[").removesuffix("]"), published, target


def _is_address(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except OSError:
            continue
    return False


def _range(text: str, whole: str, at: At, *, zero: bool = False) -> tuple[int, int]:
    low, separator, high = text.partition("-")
    high = high if separator else low
    if not (low.isdecimal() and high.isdecimal() and (0 if zero else 1) <= int(low) <= int(high) <= 65535):
        raise at.refuse(f"invalid port {text!r} in {whole!r}", "Write [[IP:]PUBLISHED:]TARGET[/PROTOCOL].")
    return int(low), int(high)


def volume(value: Any, at: At) -> list[Any]:
    """`[source:]target[:options]` as a long form."""
    if not isinstance(value, str) or at.leave(value):
        return [value]
    parts = _volume_parts(value)
    if len(parts) > 3 or not all(parts[:2]):
        raise at.refuse(f"invalid volume {value!r}", "Write [SOURCE:]TARGET[:OPTIONS].")
    if len(parts) == 1:
        # docker compose leaves the options out of the shortest targets; its hash is to be ours
        kept = Map(at.mark) if len(value) > 2 else None
        return [mapping(at, type="volume", target=parts[0], volume=kept)]
    source, target = parts[0], parts[1]
    bind = source.startswith((".", "/", "~")) or bool(_WINDOWS_PATH.match(source))
    options = mapping(at, create_host_path=True) if bind else Map(at.mark)
    out = mapping(at, type="bind" if bind else "volume", source=source, target=target)
    flags = parts[2].split(",") if len(parts) == 3 else []
    for option in flags:
        _volume_option(option, out, options, bind, at)
    out.put("bind" if bind else "volume", options, at.mark)
    label = next((item for item in reversed(flags) if item in ("z", "Z")), "")
    if label and not bind:
        out.put("bind", mapping(at, selinux=label), at.mark)
    return [out]


def _volume_parts(text: str) -> list[str]:
    if _WINDOWS_PATH.match(text):
        first, *rest = text[2:].split(":")
        return [text[:2] + first, *rest]
    return text.split(":")


def _volume_option(option: str, out: Map, options: Map, bind: bool, at: At) -> None:
    if option in ("ro", "rw"):
        if option == "ro":
            out.put("read_only", True, at.mark)
    elif option in ("z", "Z") and bind:
        options.put("selinux", option, at.mark)
    elif option in _PROPAGATIONS and bind:
        options.put("propagation", option, at.mark)
    elif option == "nocopy" and not bind:
        options.put("nocopy", True, at.mark)
    elif option not in ("z", "Z", "", *_CONSISTENCIES):
        raise at.refuse(
            f"unknown option {option!r} of a {'bind mount' if bind else 'volume'}",
            f"Known are ro, rw, z, Z, {', '.join(_PROPAGATIONS) if bind else 'nocopy'}.",
        )


def file_reference(value: Any, at: At) -> list[Any]:
    """A secret's or config's name as `{source: name}`."""
    return [mapping(at, source=value)] if isinstance(value, str) else [value]


def secret_reference(value: Any, at: At) -> list[Any]:
    """The same, with the place where Docker puts secrets."""
    out = file_reference(value, at)
    if isinstance(out[0], Map) and out[0].get("target") is None and isinstance(out[0].get("source"), str):
        full = Map(out[0].mark)
        for key, item in out[0].items():
            full.put(key, item, out[0].place(key))
        full.put("target", f"/run/secrets/{out[0]['source']}", at.mark)
        return [full]
    return out


def env_file(value: Any, at: At) -> list[Any]:
    """A path as `{path: …, required: true}`."""
    return [mapping(at, path=value, required=True)] if isinstance(value, str) else [value]


def device(value: Any, at: At) -> list[Any]:
    """`source[:target[:permissions]]` as a long form."""
    if not isinstance(value, str) or at.leave(value):
        return [value]
    parts = value.split(":")
    if len(parts) > 3 or not parts[0]:
        raise at.refuse(f"confusing device mapping {value!r}", "Use the long form: source, target, permissions.")
    permissions = parts[2] if len(parts) == 3 else "rwm"
    return [mapping(at, source=parts[0], target=parts[1] if len(parts) > 1 else parts[0], permissions=permissions)]


def include(value: Any, at: At) -> list[Any]:
    """A path as `{path: [path]}`."""
    return [mapping(at, path=sequence(at, [value]))] if isinstance(value, str) else [value]


def build(value: Any, at: At) -> Any:
    """A context as `{context: …}`."""
    return mapping(at, context=value) if isinstance(value, str) else value


def extends(value: Any, at: At) -> Any:
    """A service's name as `{service: …}`."""
    return mapping(at, service=value) if isinstance(value, str) else value


def healthcheck_test(value: Any, at: At) -> Any:
    """A command line as CMD-SHELL."""
    return sequence(at, ["CMD-SHELL", value]) if isinstance(value, str) and not at.leave(value) else value


def command(value: Any, at: At) -> Any:
    """A command line split as a shell splits it; an empty one is an empty list."""
    if not isinstance(value, str) or at.leave(value):
        return value
    return sequence(at, shell_words(value, at))


def shell_words(text: str, at: At) -> list[str]:
    """The words of a command line: quotes group; a backslash takes the next character as it is, but in single quotes.

    Nothing else has a meaning: `;`, `|` and `>` are words or parts of words, since no shell is asked.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    characters = iter(text)
    for char in characters:
        if char == "\\" and quote != "'":
            following = next(characters, None)
            if following is None:
                raise at.refuse("cannot be split into words: it ends with a backslash")
            word = word or []
            word.append(following)
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = word or []
                word.append(char)
        elif char in "'\"":
            quote, word = char, word or []
        elif char.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = word or []
            word.append(char)
    if quote:
        raise at.refuse(f"cannot be split into words: no closing {quote}")
    return words if word is None else [*words, "".join(word)]


def depends_on(value: Any, at: At) -> Any:
    """A list of services as a mapping, each with the condition that it has started."""
    if isinstance(value, Seq):
        out = Map(value.mark)
        for index, name in enumerate(value):
            inner = at.into(index, value.place(index))
            if not isinstance(name, str):
                raise inner.refuse("must be a string")
            out.put(name, mapping(inner, condition="service_started", required=True), inner.mark)
        return out
    if isinstance(value, Map):
        return value
    raise at.refuse("must be a list or a mapping of services")


def names(value: Any, at: At) -> Any:
    """A list of names as a mapping to null (`networks`, `models`)."""
    if not isinstance(value, Seq):
        return value
    out = Map(value.mark)
    for index, name in enumerate(value):
        if not isinstance(name, str):
            raise at.into(index, value.place(index)).refuse("must be a string")
        out.put(name, None, value.place(index))
    return out


def extra_hosts(value: Any, at: At) -> Any:
    """`host=ip`, `host:ip` or a mapping as a list of `host=ip`."""
    if isinstance(value, Map):
        out = Seq(value.mark)
        for name, addresses in value.items():
            if addresses.__class__ in (Reset, Override):
                raise at.into(name, value.place(name)).refuse("!reset and !override do not reach into extra_hosts")
            for address in addresses if isinstance(addresses, list) else [addresses]:
                out.add(f"{name}={_address(to_text(address))}", value.place(name))
        return out
    if not isinstance(value, Seq):
        raise at.refuse("must be a list or a mapping")
    out = Seq(value.mark)
    for index, item in enumerate(value):
        inner = at.into(index, value.place(index))
        if not isinstance(item, str):
            raise inner.refuse("must be a string")
        if at.leave(item):
            out.add(item, inner.mark)
            continue
        name, separator, address = item.partition("=")
        if not separator:
            name, separator, address = item.partition(":")
        if not name or not address:
            raise inner.refuse(f"{item!r} does not name a host and its address", "Write HOST=IP.")
        out.add(f"{name.strip()}={_address(address.strip())}", inner.mark)
    return out


def _address(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def gpus(value: Any, at: At) -> Any:
    """`all` as one request for all devices."""
    return sequence(at, [mapping(at, count=-1)]) if value == "all" else value


def device_request(value: Any, at: At) -> Any:
    """A request that says neither how many nor which is for all devices."""
    if isinstance(value, Map) and value.get("count") is None and not value.get("device_ids"):
        value.put("count", -1, value.mark)
    return value


def device_count(value: Any, at: At) -> Any:
    """`all` is -1."""
    return -1 if value == "all" else value


def external(value: Any, at: At) -> Any:
    """`external: {name: x}`, the old form, as `external: true` and `name: x`."""
    if not isinstance(value, Map) or not isinstance(value.get("external"), Map):
        return value
    out = Map(value.mark)
    old = value["external"]
    for key, item in value.items():
        out.put(key, True if key == "external" else item, value.place(key))
    if old.get("name") is not None:
        if value.get("name") not in (None, old["name"]):
            raise at.refuse("name and external.name differ", "external.name is obsolete: keep name.")
        out.put("name", old["name"], old.place("name"))
    return out


def ssh(value: Any, at: At) -> Any:
    """`default`, `id=path` in a string, a list or a mapping, as a list."""
    if isinstance(value, str):
        return sequence(at, [value])
    if isinstance(value, Map):
        items = [f"{key}={to_text(item)}" if item not in (None, "") else key for key, item in value.items()]
        return sequence(at, items)
    return value


def unexpanded(error: StackError) -> bool:
    """Whether the problem may only be a variable that was not replaced."""
    return "$" in error.problem
