"""Who may pair, and how: the policy behind the agent that bluetoothd asks. Knows no D-Bus.

    `[transport.ble] pairing`   capability        what bluetoothd asks (bluez src/device.c, doc/agent-api.txt)
    reject, just-works          NoInputNoOutput   RequestAuthorization
    passkey                     DisplayOnly       DisplayPasskey; RequestAuthorization where the central has no keyboard
    confirm                     DisplayYesNo      RequestConfirmation; DisplayPasskey where it cannot compare

Some kernels do not ask about just-works pairings when there is neither input nor output: those before 5.8, and those
that take linux ffee202a78c2 back, as the Raspberry Pi's has done. So whoever turns up paired without a question is put
through the same rules afterwards (`unasked`), and what they forbid is unserved and removed.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from smp_dfu_host.transport.ble import window

log = logging.getLogger(__name__)

JUST_WORKS, PASSKEY, CONFIRM = "just-works", "passkey", "confirm"
"""How a pairing is made."""
CAPABILITIES = {
    "reject": "NoInputNoOutput",
    "just-works": "NoInputNoOutput",
    "passkey": "DisplayOnly",
    "confirm": "DisplayYesNo",
}
"""What the agent says that this host has, by policy; it decides which questions are asked."""
CONFIRM_S = 25.0
"""Longest wait for a person; the Security Manager gives up after 30 s (Core Specification, vol 3 part H 3.4)."""


class Desk(Protocol):
    """The person at the host, if there is one."""

    def show(self, address: str, passkey: str) -> None:
        """Show the passkey that has to be typed on the central."""
        ...

    async def confirm(self, address: str, number: str) -> bool:
        """Ask whether the central shows the same number; can be cancelled."""
        ...

    def done(self, address: str) -> None:
        """Show it no longer: the central is bonded, or has left."""
        ...


class NobodyThere:
    """A `Desk` without a person; passkeys are in the log."""

    def show(self, address: str, passkey: str) -> None:
        """Do nothing."""

    async def confirm(self, address: str, number: str) -> bool:
        """Refuse: nobody can compare."""
        log.warning("pairing with %s: there is no terminal to compare %s on; run serve in one", address, number)
        return False

    def done(self, address: str) -> None:
        """Do nothing."""


class Pairing:
    """Answers the agent's questions, and remembers the answers for as long as a connection lasts.

    A central is named by a key, which for BlueZ is its D-Bus path.

    Args:
        policy: `reject`, `just-works`, `passkey` or `confirm`.
        is_central: Says whether a device has connected to us, and may be one.
        address: Returns a central's address.
        drop: Begins to disconnect a central, where a question cannot be refused.
        window_in: The folder of the pairing window that is needed; None: no window is.
    """

    def __init__(
        self,
        policy: str,
        desk: Desk,
        *,
        is_central: Callable[[str], bool],
        address: Callable[[str], str],
        drop: Callable[[str], None],
        window_in: Path | None = None,
    ) -> None:
        self._policy = policy
        self._desk = desk
        self._is_central = is_central
        self._address = address
        self._drop = drop
        self._window_in = window_in
        self._agreed: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        self._questions: set[asyncio.Task[bool]] = set()

    def agreed(self, key: str) -> str:
        """Return how the central was let in on this connection; empty: it was not, or not yet."""
        return self._agreed.get(key, "")

    def authorize(self, key: str) -> str:
        """Decide about a just-works pairing; return why it is refused, or nothing."""
        return self._decide(key, JUST_WORKS)

    def unasked(self, key: str) -> str:
        """Decide about a pairing that was made without a question; return why it should not have been, or nothing."""
        return "" if key in self._agreed else self._decide(key, JUST_WORKS)

    def show(self, key: str, passkey: int) -> str:
        """Show a passkey, or disconnect the central; return why, or nothing. Comes again with each digit typed."""
        text = f"{passkey:06d}"
        if self._shown.get(key) == text:
            return ""
        if reason := self._decide(key, PASSKEY):
            if self._is_central(key):
                self._drop(key)
            return reason
        self._shown[key] = text
        log.info("pairing with %s: type the passkey %s there", self._address(key), text)
        self._desk.show(self._address(key), text)
        return ""

    async def confirm(self, key: str, number: int) -> str:
        """Have a person compare a number; return why the pairing is refused, or nothing."""
        if reason := self._refusal(key, CONFIRM):
            return self._refused(key, reason)
        if not await self._same(self._address(key), f"{number:06d}"):
            return self._refused(key, "nobody has confirmed that both show the same number")
        return self._decide(key, CONFIRM)  # asked again: the window may have closed meanwhile

    def cancel(self) -> None:
        """Drop the questions that are open: bluetoothd does not want the answer any more."""
        for question in self._questions:
            question.cancel()

    def bonded(self, key: str) -> None:
        """Take note that a pairing has ended well."""
        if self._shown.pop(key, None):
            self._desk.done(self._address(key))

    def left(self, key: str) -> None:
        """Forget a connection."""
        self.bonded(key)
        self._agreed.pop(key, None)

    def _decide(self, key: str, how: str) -> str:
        if reason := self._refusal(key, how):
            return self._refused(key, reason)
        self._agreed[key] = how
        log.info("pairing with %s accepted (%s)", self._address(key), how)
        return ""

    def _refused(self, key: str, reason: str) -> str:
        self._agreed.pop(key, None)
        log.warning("pairing with %s refused: %s", self._address(key), reason)
        return reason

    def _refusal(self, key: str, how: str) -> str:
        if not self._is_central(key):
            return "it is no central of ours"
        if self._policy == "reject":
            return "[transport.ble] pairing = reject"
        if self._window_in and not window.remaining(self._window_in):
            return "the pairing window is closed; open one: smp-dfu-host ble pair"
        if (how == JUST_WORKS) is not (self._policy == JUST_WORKS):
            return f"[transport.ble] pairing = {self._policy}, and it can only pair by {how}"
        return ""

    async def _same(self, address: str, number: str) -> bool:
        log.info("pairing with %s: does it show %s?", address, number)
        question = asyncio.ensure_future(self._desk.confirm(address, number))
        self._questions.add(question)
        try:
            done, _ = await asyncio.wait({question}, timeout=CONFIRM_S)
            return bool(done) and not question.cancelled() and question.result()
        finally:
            question.cancel()
            self._questions.discard(question)
            self._desk.done(address)
