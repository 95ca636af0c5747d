from dataclasses import dataclass

from smp_dfu_host.dispatch.group import Context, Group, Row, read, write
from smp_dfu_host.wire.body import Body
from smp_dfu_host.wire.header import Header, Op
from tests.fakes import BLE, Bench, FakeLink


@dataclass(frozen=True, slots=True)
class Echo(Body):
    d: str = ""


class Plain(Group):
    id = 64
    name = "plain"

    @read(0, Echo)
    @write(0, Echo)
    async def echo(self, context: Context, request: Echo) -> Echo:
        return request

    @read(6)
    async def params(self, context: Context) -> dict[str, int]:
        return {"buf_size": context.buf_size}


class Extended(Plain):
    @write(6)
    async def params_too(self, context: Context) -> Body:
        return Body()

    @read(6)
    async def params(self, context: Context) -> dict[str, int]:
        return {"buf_size": 0}


class Empty(Group):
    id = 65
    name = "empty"


def test_decorators_write_the_table() -> None:
    assert set(Plain.rows) == {
        Row(Op.WRITE, 0, Echo, "echo"),
        Row(Op.READ, 0, Echo, "echo"),
        Row(Op.READ, 6, None, "params"),
    }


def test_subclass_adds_rows_and_replaces_those_of_its_methods() -> None:
    assert len(Extended.rows) == 4
    assert Row(Op.WRITE, 6, None, "params_too") in Extended.rows
    assert len(Plain.rows) == 3


def test_handlers_count_the_gaps() -> None:
    services = Bench().services
    assert (Plain(services).handlers, Empty(services).handlers) == (7, 0)


async def test_methods_stay_callable() -> None:
    group = Plain(Bench().services)
    context = Context(FakeLink(BLE, 100), Header(Op.READ, 1, 0, 0, 64, 0, 0))
    assert await group.echo(context, Echo("hi")) == Echo("hi")
    assert await group.params(context) == {"buf_size": 100}
    assert context.peer is BLE
