"""The other side of a pairing: an agent for a central of the same bluetoothd, which asks it and not the server's.

Who calls Device1.Pair is asked for what it must type or compare, if it has an agent of its own (bluez src/agent.c).
"""

# mypy: disable-error-code="no-untyped-call, untyped-decorator, valid-type, name-defined"
# ruff: noqa: F821, N802

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from dbus_next.message import Message
from dbus_next.service import ServiceInterface, method

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_bus import Bus
from tests.ble.raw_central import shown

PATH = "/org/smp_dfu_host/central_agent"
MANAGER = "org.bluez.AgentManager1"
DEVICE = "org.bluez.Device1"
PAIRING_S = 60


class Desk:
    """A person at the server: keeps what is shown, and confirms if told to."""

    def __init__(self) -> None:
        self.passkeys: asyncio.Queue[str] = asyncio.Queue()
        self.numbers: list[str] = []
        self.agrees = True

    def show(self, address: str, passkey: str) -> None:
        self.passkeys.put_nowait(passkey)

    async def confirm(self, address: str, number: str) -> bool:
        self.numbers.append(number)
        return self.agrees

    def done(self, address: str) -> None: ...


class CentralAgent(ServiceInterface):
    """org.bluez.Agent1 of a central: types what the desk shows, and agrees to everything."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("org.bluez.Agent1")
        self._desk = desk
        self.numbers: list[str] = []
        self.wrong = False
        """Type another passkey."""

    @method()
    def Release(self):  # type: ignore[no-untyped-def]
        ...

    @method()
    def Cancel(self):  # type: ignore[no-untyped-def]
        ...

    @method()
    async def RequestPasskey(self, device: "o") -> "u":
        return (int(await self._desk.passkeys.get()) + self.wrong) % 1_000_000

    @method()
    def RequestConfirmation(self, device: "o", passkey: "u"):  # type: ignore[no-untyped-def]
        self.numbers.append(f"{passkey:06d}")

    @method()
    def RequestAuthorization(self, device: "o"):  # type: ignore[no-untyped-def]
        ...


class Pairer:
    """Pairs a controller with another."""

    def __init__(self, bus: Bus, agent: CentralAgent) -> None:
        self._bus = bus
        self.agent = agent

    async def pair(self, controller: int, to: int) -> None:
        """Pair over the connection that is there.

        bluetoothd answers only when it has looked for services, too, which it cannot: the test's central has the ATT
        channel. So what is waited for is the bond, or a refusal.

        Raises:
            TransportError: If it is refused; the text is bluetoothd's.
        """
        path = f"/org/bluez/hci{controller}/dev_{shown(to).replace(':', '_')}"
        call = Message(destination="org.bluez", path=path, interface=DEVICE, member="Pair")
        asking = asyncio.ensure_future(self._bus.call(call))
        try:
            async with asyncio.timeout(PAIRING_S):
                while not (asking.done() or await self._paired(path)):
                    await asyncio.wait({asking}, timeout=0.1)
            reply = asking.result() if asking.done() else None
        finally:
            asking.cancel()
        if reply and reply.error_name:
            raise TransportError(f"{reply.error_name}: {reply.body[0] if reply.body else ''}")

    async def _paired(self, path: str) -> bool:
        (paired,) = await self._bus.ask(path, "org.freedesktop.DBus.Properties.Get", "ss", DEVICE, "Paired")
        return bool(paired.value)


@asynccontextmanager
async def pairer(desk: Desk, capability: str) -> AsyncIterator[Pairer]:
    """Be the agent of centrals, with that capability."""
    bus = await Bus.open()
    agent = CentralAgent(desk)
    bus.export(PATH, agent)
    await bus.ask("/org/bluez", f"{MANAGER}.RegisterAgent", "os", PATH, capability)
    try:
        yield Pairer(bus, agent)
    finally:
        with suppress(TransportError):
            await bus.ask("/org/bluez", f"{MANAGER}.UnregisterAgent", "o", PATH)
        await bus.close()
