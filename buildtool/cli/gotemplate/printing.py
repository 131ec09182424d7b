"""How Go's fmt prints values: Sprint and Sprintf.

Source: Go, package fmt, "Printing" (verbs, flags, and the `%!verb(type=value)` of mistakes).
"""

from __future__ import annotations

import re
from typing import Any

from buildtool.cli.gotemplate.values import (
    MISSING,
    Missing,
    Type,
    Value,
    elements,
    field_values,
    pairs,
    parse,
    pointed,
    type_of,
    typed,
)

_DIRECTIVE = re.compile(
    r"%([+\-# 0]*)(?:\[(\d+)\])?(\*|\d+)?(?:(\.)(?:\[(\d+)\])?(\*|\d+)?)?(?:\[(\d+)\])?(.?)", re.DOTALL
)
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def quote(text: str, mark: str = '"') -> str:
    """A Go literal of a text."""
    out = [mark]
    for char in text:
        if char == mark:
            out.append("\\" + mark)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        elif 0xDC80 <= ord(char) <= 0xDCFF:
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        else:
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join([*out, mark])


def sprint(values: tuple[Any, ...]) -> str:
    """Values side by side, with a blank between two of which neither is a string."""
    out: list[str] = []
    for position, value in enumerate(values):
        if position and not _is_string(value) and not _is_string(values[position - 1]):
            out.append(" ")
        out.append(text_of(value))
    return "".join(out)


def sprintln(values: tuple[Any, ...]) -> str:
    """Values with blanks between them and a newline behind."""
    return " ".join(text_of(value) for value in values) + "\n"


def printable(value: Any) -> Any:
    """What a template prints for a value: what a pointer points to, and `<no value>` for what is not there."""
    value = pointed(value)
    return "<no value>" if value is MISSING or value is None else value


def text_of(value: Any) -> str:
    """A value by %v."""
    if isinstance(value, str):
        return value
    return format_value(value, "v", _Flags())


def _is_string(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Value) and value.type.kind == "string")


class _Flags:
    __slots__ = ("minus", "plus", "precision", "sharp", "space", "width", "zero")

    def __init__(self, flags: str = "", width: int | None = None, precision: int | None = None) -> None:
        self.plus, self.minus, self.sharp = "+" in flags, "-" in flags, "#" in flags
        self.space, self.zero = " " in flags, "0" in flags and "-" not in flags
        self.width, self.precision = width, precision


def sprintf(form: str, values: tuple[Any, ...]) -> str:
    """Values by a format with verbs."""
    out: list[str] = []
    at, used, reordered, end = 0, 0, False, 0
    for found in _DIRECTIVE.finditer(form):
        if found.start() < end:
            continue
        out.append(form[end : found.start()])
        end = found.end()
        flags, first, width_text, dot, second, precision_text, third, verb = found.groups()
        numbers: list[int | None] = []
        bad = ""
        for index, text in ((first, width_text), (second, precision_text)):
            if index and text == "*":
                at, reordered = int(index) - 1, True
            if text == "*":
                number = values[at] if 0 <= at < len(values) else None
                if not isinstance(number, int) or isinstance(number, bool):
                    bad += "%!(BADWIDTH)" if text is width_text else "%!(BADPREC)"
                    number = None
                at += 1
                numbers.append(number)
            else:
                numbers.append(int(text) if text else None)
        width, precision = numbers
        if dot and precision is None:
            precision = 0
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        index = third or (first if not width_text else None) or (second if dot and not precision_text else None)
        if index:
            at, reordered = int(index) - 1, True
        out.append(bad)
        if not verb:
            out.append("%!(NOVERB)")
        elif verb == "%":
            out.append("%")
        elif index and not 0 <= at < len(values):
            out.append(f"%!{verb}(BADINDEX)")
        elif at >= len(values):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(format_value(values[at], verb, _Flags(flags, width, precision)))
            at += 1
        used = max(used, at)
    out.append(form[end:])
    if not reordered and at < len(values):
        extra = ", ".join(
            "<nil>" if value is None else f"{type_of(value).name}={text_of(value)}" for value in values[at:]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def format_value(value: Any, verb: str, flags: _Flags, depth: int = 0) -> str:
    """A value by one verb."""
    if value is None or isinstance(value, Missing):
        if verb == "T" or verb == "v":
            return _pad("<nil>", flags)
        return f"%!{verb}(<nil>)"
    if verb == "T":
        return _pad(type_of(value).name, flags)
    if verb == "p":
        return _pad(_address(value), flags) if _is_pointer(value) else _bad(value, verb, flags)
    if isinstance(value, Value):
        return _format_typed(value, verb, flags, depth)
    if isinstance(value, str):
        return _string(value, verb, flags, value)
    if isinstance(value, bool):
        return _pad("true" if value else "false", flags) if verb in "vt" else _bad(value, verb, flags)
    if isinstance(value, int):
        return _integer(value, verb, flags, value, signed=True)
    if isinstance(value, float):
        return _float(value, verb, flags, value)
    if verb in "vgGeEfF":
        verb = "g" if verb == "v" else verb
        real = _float(value.real, verb, _Flags("", None, flags.precision), value)
        return _pad(f"({real}{_float(value.imag, verb, _Flags('+', None, flags.precision), value)}i)", flags)
    return _bad(value, verb, flags)


def _is_pointer(value: Any) -> bool:
    return isinstance(value, Value) and value.type.kind in ("ptr", "map", "slice", "func")


def _format_typed(value: Value, verb: str, flags: _Flags, depth: int) -> str:
    kind, raw, name = value.type.kind, value.raw, value.type.name
    if name == "time.Time" and verb in "vsqxX":
        from buildtool.cli.gotemplate.times import go_string, string

        return _string(
            go_string(raw) if flags.sharp and verb == "v" else string(raw), "s" if verb == "v" else verb, flags, value
        )
    if name == "time.Duration" and verb in "vsqxX" and not (flags.sharp and verb == "v"):
        from buildtool.cli.gotemplate.times import duration

        return _string(duration(int(raw)), "s" if verb == "v" else verb, flags, value)
    if kind == "string":
        return _string(str(raw), verb, flags, value)
    if kind in ("int", "uint"):
        return _integer(int(raw), verb, flags, value, signed=kind == "int")
    if kind == "bool":
        return format_value(bool(raw), verb, flags, depth)
    if kind == "float64":
        return _float(float(raw), verb, flags, value)
    if kind == "func":
        return _bad(value, verb, flags) if verb != "v" else _address(value)
    sharp = flags.sharp and verb == "v"
    if kind == "ptr":
        return _pointer(value, verb, flags, depth, sharp=sharp)
    if kind == "struct":
        parts = [
            (f"{field.name}:" if sharp or (flags.plus and verb == "v") else "")
            + _nested(item, field.type, verb, flags, depth)
            for field, item in field_values(value)
        ]
        return f"{name}{{{', '.join(parts)}}}" if sharp else f"{{{' '.join(parts)}}}"
    elem = value.type.elem
    assert elem is not None
    if kind == "map":
        if sharp and raw is None:
            return f"{name}(nil)"
        key_type = value.type.key
        assert key_type is not None
        parts = [
            f"{_nested(key, key_type, verb, flags, depth)}:{_nested(item, elem, verb, flags, depth)}"
            for key, item in pairs(value)
        ]
        return f"{name}{{{', '.join(parts)}}}" if sharp else f"map[{' '.join(parts)}]"
    if sharp and raw is None and kind == "slice":
        return f"{name}(nil)"
    parts = [_nested(item, elem, verb, flags, depth) for item in elements(value)]
    return f"{name}{{{', '.join(parts)}}}" if sharp else f"[{' '.join(parts)}]"


def _nested(item: Any, declared: Type, verb: str, flags: _Flags, depth: int) -> str:
    if item is None and declared.kind == "interface":
        return "interface {}(nil)" if flags.sharp and verb == "v" else "<nil>"
    return format_value(item, verb, flags, depth + 1)


def _pointer(value: Value, verb: str, flags: _Flags, depth: int, *, sharp: bool) -> str:
    target = value.type.elem
    assert target is not None
    if value.raw is None:
        if sharp:
            return f"({value.type.name})(nil)"
        return _pad("<nil>", flags) if verb == "v" else f"%!{verb}({value.type.name}=<nil>)"
    if depth == 0 and target.kind in ("struct", "map", "slice", "array"):
        return "&" + format_value(typed(target, value.raw), verb, flags, depth + 1)
    if sharp:
        return f"({value.type.name})({_address(value)})"
    if verb in "bodxX":
        return _integer(int(_address(value), 16), verb, flags, value, signed=False)
    return _pad(_address(value), flags) if verb in "vp" else _bad(value, verb, flags)


def _address(value: Any) -> str:
    """Something that looks like an address, the same for the same thing."""
    return f"0xc{id(value.raw) & 0xFFFFFFFF:09x}"


def _bad(value: Any, verb: str, flags: _Flags) -> str:
    shown = format_value(value, "v", flags)
    return f"%!{verb}({type_of(value).name}={shown})"


def _pad(text: str, flags: _Flags) -> str:
    if flags.width is None:
        return text
    if flags.minus:
        return text.ljust(flags.width)
    return text.rjust(flags.width, "0" if flags.zero else " ")


def _string(text: str, verb: str, flags: _Flags, value: Any) -> str:
    if verb == "v" and flags.sharp:
        return _pad(quote(text), flags)
    if verb in "vs":
        return _pad(text if flags.precision is None else text[: flags.precision], flags)
    if verb == "q":
        text = text if flags.precision is None else text[: flags.precision]
        raw = flags.sharp and "`" not in text and all(c == "\t" or (c.isprintable() and c != "\ufeff") for c in text)
        return _pad(f"`{text}`" if raw else quote(text), flags)
    if verb in "xX":
        data = text.encode("utf-8", "surrogateescape")[: flags.precision]
        lead = f"0{verb}" if flags.sharp and data else ""
        digits = " ".join(lead + f"{byte:02x}" for byte in data) if flags.space else lead + data.hex()
        return _pad(digits.upper() if verb == "X" else digits, flags)
    return _bad(value, verb, flags)


_BASES = {"b": ("b", "0b"), "o": ("o", "0"), "O": ("o", "0o"), "x": ("x", "0x"), "X": ("X", "0X"), "d": ("d", "")}


def _integer(number: int, verb: str, flags: _Flags, value: Any, *, signed: bool) -> str:
    if verb == "v":
        if flags.sharp and not signed:
            return _integer(number, "x", flags, value, signed=signed)
        return _integer(number, "d", _Flags("-" * flags.minus + "0" * flags.zero, flags.width), value, signed=signed)
    if verb == "c":
        return _pad(chr(number) if 0 <= number < 0x110000 else "\ufffd", flags)
    if verb == "q":
        return _pad(quote(chr(number) if 0 <= number < 0x110000 else "\ufffd", "'"), flags)
    if verb == "U":
        text = f"U+{number:04X}" + (f" '{chr(number)}'" if flags.sharp and chr(number).isprintable() else "")
        return _pad(text, _Flags("-" if flags.minus else "", flags.width))
    if verb not in _BASES:
        return _bad(value, verb, flags)
    base, lead = _BASES[verb]
    digits = format(abs(number), base)
    if flags.precision is not None:
        digits = "" if flags.precision == 0 and number == 0 else digits.rjust(flags.precision, "0")
    sign = "-" if number < 0 else "+" if flags.plus else " " if flags.space else ""
    if not (flags.sharp or verb == "O") or verb == "d" or (verb == "o" and digits.startswith("0")):
        lead = ""
    if flags.zero and flags.precision is None and flags.width is not None:
        digits = digits.rjust(flags.width - len(sign), "0")
        return f"{sign}{lead}{digits}"
    return _pad(f"{sign}{lead}{digits}", flags)


def _float(number: float, verb: str, flags: _Flags, value: Any) -> str:
    if verb not in "vgGeEfFxX":
        return _bad(value, verb, flags)
    flags.plus = flags.plus and verb != "v"
    sign = "-" if number < 0 or str(number).startswith("-") else "+" if flags.plus else " " if flags.space else ""
    number = abs(number)
    if number != number or number == float("inf"):
        text = "NaN" if number != number else f"{'+' if flags.plus or sign != '-' else ''}Inf".removeprefix("+")
        text = f"{'+' if not sign and text == 'Inf' and verb != 'v' else sign}{text}"
        return _pad(text, _Flags("-" if flags.minus else "", flags.width))
    if verb in "xX":
        mantissa, _, exponent = number.hex().partition("p")
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{int(exponent):+03d}"
        text = text.upper() if verb == "X" else text
    elif verb in "vgG":
        text = _shortest(number) if flags.precision is None else _general(number, flags.precision)
        text = text.upper() if verb == "G" else text
    else:
        text = format(number, f".{6 if flags.precision is None else flags.precision}{verb}")
    if flags.zero and flags.width is not None:
        return sign + text.rjust(flags.width - len(sign), "0")
    return _pad(sign + text, flags)


def _shortest(number: float) -> str:
    """The fewest digits that give the number again; with an exponent below 10^-4 and from 10^6 on."""
    if number == 0:
        return "0"
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, part = mantissa.partition(".")
    part = "" if part == "0" else part
    power = int(exponent or 0) + (len(whole) if whole != "0" else len(part.lstrip("0")) - len(part)) - 1
    all_digits = (whole + part).strip("0") or "0"
    if power < -4 or power >= 6:
        return all_digits[0] + ("." + all_digits[1:] if len(all_digits) > 1 else "") + f"e{power:+03d}"
    if power < 0:
        return "0." + "0" * (-power - 1) + all_digits
    if len(all_digits) <= power + 1:
        return all_digits + "0" * (power + 1 - len(all_digits))
    return all_digits[: power + 1] + "." + all_digits[power + 1 :]


def _general(number: float, precision: int) -> str:
    text = format(number, f".{precision or 1}g")
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent):+03d}" if mark else text


def is_stringer(value: Any) -> bool:
    """Whether a value has a text of its own that fmt asks for."""
    return isinstance(value, Value) and value.type is parse("time.Time")
