"""One call of a command, as its handler sees it."""

from __future__ import annotations

from buildtool.client import Client, resolve_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.parse import Command, Parsed


class Call:
    """The flags and arguments of a call, by type, and the client for it.

    Asking for a flag that the command's table does not have is a mistake in the handler and raises KeyError.
    """

    def __init__(self, name: str, command: Command, parsed: Parsed, *, host: str = "", root: str = "") -> None:
        self.name = name
        self.command = command
        self.arguments = parsed.arguments
        self.host = host
        self.root = root
        self._values = parsed.values
        self._defaults = {flag.name: flag.default for flag in command.flags}
        self._client: Client | None = None

    def changed(self, values: dict[str, object]) -> Call:
        """The same call with other values of flags."""
        from buildtool.cli.parse import Parsed

        parsed = Parsed()
        parsed.arguments, parsed.values = self.arguments, self._values | values
        other = Call(self.name, self.command, parsed, host=self.host, root=self.root)
        other._client = self.client
        return other

    @property
    def client(self) -> Client:
        """The client of the daemon that this call is meant for; connects at its first request."""
        if self._client is None:
            self._client = Client(resolve_address(self.host, self.root))
        return self._client

    def as_command(self, command: Command, changes: dict[str, object]) -> Call:
        """A call of another command with this one's arguments and flags, as far as the other has them, changed."""
        from buildtool.cli.parse import Parsed as ParsedType

        parsed = ParsedType()
        parsed.arguments = list(self.arguments)
        known = {flag.name for flag in command.flags}
        parsed.values = {name: value for name, value in self._values.items() if name in known} | changes
        return Call(self.name, command, parsed, host=self.host, root=self.root)

    def use(self, client: Client) -> None:
        """Talk to another daemon from now on."""
        self._client = client

    def given(self, flag: str) -> bool:
        """Whether the flag stands in the command line."""
        return flag in self._values

    def switch(self, flag: str) -> bool:
        """A flag without a value."""
        return bool(self._value(flag))

    def text(self, flag: str) -> str:
        """A flag's text, its default or "" when not given."""
        value = self._value(flag)
        return "" if value is None else str(value)

    def choice(self, flag: str) -> str:
        """The text of a flag that takes one of its `choices`. Raises UsageError for another."""
        value = self.text(flag)
        known = next(each.choices for each in self.command.flags if each.name == flag)
        if value not in known:
            from buildtool.cli.parse import UsageError

            raise UsageError(f'invalid argument "{value}" for "--{flag}" flag: must be one of {", ".join(known)}')
        return value

    def number(self, flag: str) -> int | None:
        """A flag's whole number (bytes, nanoseconds, 1e-9 CPUs), its default or None when not given."""
        value = self._value(flag)
        assert value is None or isinstance(value, int)
        return value

    def texts(self, flag: str) -> list[str]:
        """All values of a flag that may be repeated, in order."""
        value = self._value(flag)
        return list(value) if isinstance(value, list) else []

    def _value(self, flag: str) -> object:
        return self._values[flag] if flag in self._values else self._defaults[flag]
