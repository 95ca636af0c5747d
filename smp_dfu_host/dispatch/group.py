"""Command groups: a table of typed methods.

    class EchoGroup(Group):
        id = 0
        name = "os mgmt"

        @read(0, Echo)
        @write(0, Echo)
        async def echo(self, context: Context, request: Echo) -> Body: ...

        @read(6)
        async def params(self, context: Context) -> Body: ...

A row without a body type is a command that never looks at its payload. A method answers with a body or a mapping; a
refusal is raised, never returned.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.peer import Link, Peer
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import Rc
from smp_dfu_host.wire.body import Body
from smp_dfu_host.wire.header import Header, Op

G = TypeVar("G")
B = TypeVar("B", bound=Body)
R = TypeVar("R", bound=Body | Mapping[str, object])


class Context(NamedTuple):
    """What a command may know about its request besides the body."""

    link: Link
    """The connection on which it came in and on which the reply goes out."""
    header: Header
    """The request's header; `header.version` is 0 or 1."""
    payload: bytes = b""
    """The request's CBOR as it came, for the few commands that take what they understand of it and ignore the rest."""
    groups: Mapping[int, "Group"] = MappingProxyType({})
    """All groups that are served, by id, in the order of their registration."""

    @property
    def peer(self) -> Peer:
        """Who asks."""
        return self.link.peer

    @property
    def buf_size(self) -> int:
        """Largest message on this link, header included, in bytes."""
        return self.link.buf_size


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a group's table."""

    op: Op
    """`READ` or `WRITE`."""
    command: int
    """0..255."""
    body: type[Body] | None
    """The type of the request's body; None if the payload is never looked at."""
    method: str
    """The name of the method that answers."""


_ROWS = "smp_rows"

Method = Callable[[G, Context, B], Awaitable[R]]
Bare = Callable[[G, Context], Awaitable[R]]


class _Mark:
    """A decorator that notes a row on a method and leaves the method as it is."""

    __slots__ = ("_body", "_command", "_op")

    def __init__(self, op: Op, command: int, body: type[Body] | None) -> None:
        self._op, self._command, self._body = op, command, body

    def __call__(self, method: Any) -> Any:
        row = Row(self._op, self._command, self._body, method.__name__)
        setattr(method, _ROWS, (*getattr(method, _ROWS, ()), row))
        return method


@overload
def read(command: int, body: type[B]) -> Callable[[Method[G, B, R]], Method[G, B, R]]: ...
@overload
def read(command: int, body: None = None) -> Callable[[Bare[G, R]], Bare[G, R]]: ...
def read(command: int, body: type[Body] | None = None) -> Any:
    """Make the method answer reads of that command."""
    return _Mark(Op.READ, command, body)


@overload
def write(command: int, body: type[B]) -> Callable[[Method[G, B, R]], Method[G, B, R]]: ...
@overload
def write(command: int, body: None = None) -> Callable[[Bare[G, R]], Bare[G, R]]: ...
def write(command: int, body: type[Body] | None = None) -> Any:
    """Make the method answer writes of that command."""
    return _Mark(Op.WRITE, command, body)


class Group:
    """A group of commands; subclasses are the rows and the methods behind them."""

    id: ClassVar[int]
    """The group's number on the wire."""
    name: ClassVar[str]
    """The group's name as the enumeration group tells it, such as `os mgmt`."""
    v0_rc: ClassVar[Mapping[int, Rc]] = {}
    """What version 0 makes of the group's own codes; a code that is missing becomes `EUNKNOWN`."""
    too_large: ClassVar[Rc] = Rc.EMSGSIZE
    """The answer when a reply does not fit the link's buffer; the enumeration group has another."""
    rows: ClassVar[tuple[Row, ...]] = ()
    """The table, as the decorators wrote it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = tuple(row for member in vars(cls).values() for row in getattr(member, _ROWS, ()))
        names = {row.method for row in own}
        cls.rows = (*(row for row in cls.rows if row.method not in names), *own)

    def __init__(self, services: Services) -> None:
        self.services = services

    @classmethod
    def needs(cls, config: Config) -> str:
        """Return the option that must be set before this group can be served; nothing: it can."""
        del config
        return ""

    @property
    def handlers(self) -> int:
        """The highest command number plus one, gaps counted, as the enumeration group tells it."""
        return max((row.command for row in self.rows), default=-1) + 1
