"""The pairing agent, which bluetoothd asks about pairings that come in (bluez doc/agent-api.txt).

What it answers is `pairing.Pairing`'s to decide. Of the devices of this adapter only LE centrals that have connected to
us may pair, so that a laptop does not accept other devices in silence while a target runs on it.

Answers are sent by hand: dbus-next 0.2.3 can refuse only by an exception, which it logs with its traceback.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message

from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError
from smp_dfu_host.transport.ble.pairing import Pairing

PATH = "/org/smp_dfu_host/agent"
INTERFACE = "org.bluez.Agent1"
MANAGER = "org.bluez.AgentManager1"
REJECTED = "org.bluez.Error.Rejected"


class Agent:
    """org.bluez.Agent1: passes what bluetoothd asks on to the policy.

    Args:
        owner: Returns bluetoothd's name on the bus; nobody else is answered.
    """

    def __init__(self, bus: Bus, owner: Callable[[], str], pairing: Pairing) -> None:
        self._bus = bus
        self._owner = owner
        self._pairing = pairing
        self._answers: set[asyncio.Task[None]] = set()

    def called(self, message: Message) -> bool:
        """Take a call that is for the agent; False leaves it to others."""
        if message.message_type is not MessageType.METHOD_CALL or message.path != PATH:
            return False
        if message.interface != INTERFACE or message.sender != self._owner():
            return False
        match message.member, message.body:
            case "RequestAuthorization", [device]:
                self._answer(message, self._pairing.authorize(device))
            case "DisplayPasskey", [device, passkey, _entered]:
                self._answer(message, self._pairing.show(device, passkey))
            case "RequestConfirmation", [device, number]:
                self._later(self._confirm(message, device, number))
            case "AuthorizeService", _:
                self._answer(message, "not a service of the SMP server")
            case (("Cancel" | "Release"), _):
                self._pairing.cancel()
                self._answer(message, "")
            case _:
                return False
        return True

    async def _confirm(self, message: Message, device: str, number: int) -> None:
        self._answer(message, await self._pairing.confirm(device, number))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def _answer(self, message: Message, refusal: str) -> None:
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            return
        if refusal:
            self._bus.send(Message.new_error(message, REJECTED, refusal))
        else:
            self._bus.answer(message, "", [])


async def register(bus: Bus, capability: str) -> None:
    """Make the agent the one that BlueZ asks.

    Args:
        bus: Where bluetoothd is.
        capability: `NoInputNoOutput`, `DisplayOnly` or `DisplayYesNo`.

    Raises:
        BusError: If bluetoothd refuses it.
    """
    try:
        await bus.ask("/org/bluez", f"{MANAGER}.RegisterAgent", "os", PATH, capability)
    except BusError as exc:
        if not exc.name.endswith("AlreadyExists"):
            raise
    await bus.ask("/org/bluez", f"{MANAGER}.RequestDefaultAgent", "o", PATH)


async def unregister(bus: Bus) -> None:
    """Take the agent back; nothing to do if bluetoothd has forgotten it."""
    with suppress(BusError):
        await bus.ask("/org/bluez", f"{MANAGER}.UnregisterAgent", "o", PATH)
