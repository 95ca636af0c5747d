"""Connections and their parameters, with a controller of our own."""

import logging

import pytest

from smp_dfu_host.transport.ble.hci import LM_ENCRYPT, Connection
from smp_dfu_host.transport.ble.hci_connections import HciConnections
from smp_dfu_host.transport.ble.hci_packets import disconnect_command, update_command
from smp_dfu_host.transport.ble.parameters import Parameters, Request
from tests.transport.ble.controller import FakeController, connected, disconnected, taken, updated

FIRST, SECOND = "AA:00:00:00:00:01", "AA:00:00:00:00:02"
PHONE = Parameters(36, 0, 42)
WANTED = Request(6, 6, 0, 400)


class Diary:
    """A `Watcher` that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def connected(self, handle: int, parameters: Parameters | None) -> None:
        self.told.append(("connected", handle, parameters))

    def updated(self, handle: int, parameters: Parameters) -> None:
        self.told.append(("updated", handle, parameters))

    def refused(self, handle: int, reason: str) -> None:
        self.told.append(("refused", handle, reason))

    def disconnected(self, handle: int) -> None:
        self.told.append(("disconnected", handle))

    def take(self) -> list[tuple[object, ...]]:
        told, self.told = self.told, []
        return told


class Rig:
    def __init__(self) -> None:
        self.controller = FakeController()
        self.connections = HciConnections(self.controller.connect, self.controller.list)
        self.diary = Diary()
        self.connections.watch(self.diary)


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.connections.open("hci1", lambda: None)
    return made


def test_connections_come_and_go(rig: Rig) -> None:
    assert rig.controller.adapter == "hci1"
    rig.controller.hear(connected(64, FIRST))
    rig.controller.hear(connected(65, SECOND))
    rig.controller.hear(updated(65))
    rig.controller.hear(disconnected(64))
    rig.controller.hear(disconnected(64))
    assert rig.diary.take() == [
        ("connected", 64, PHONE),
        ("connected", 65, PHONE),
        ("updated", 65, Parameters(6, 0, 400)),
        ("disconnected", 64),
    ]
    assert rig.connections.parameters == {SECOND: Parameters(6, 0, 400)}
    assert rig.connections.address(65) == SECOND


def test_asking_is_a_command_and_its_answer_is_told(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.connections.ask(64, WANTED)
    assert rig.controller.sent == [update_command(64, WANTED)]
    rig.controller.hear(taken())
    rig.controller.hear(updated(64))
    assert rig.diary.take()[1:] == [("updated", 64, Parameters(6, 0, 400))]


@pytest.mark.parametrize("answers", [(taken(0x1A),), (taken(), updated(64, 0, 0x1A))])
def test_a_refusal_is_told_by_whichever_event_it_comes(rig: Rig, answers: tuple[bytes, ...]) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.connections.ask(64, WANTED)
    for packet in answers:
        rig.controller.hear(packet)
    assert rig.diary.take()[1:] == [("refused", 64, "the central cannot be asked")]
    assert rig.connections.parameters == {FIRST: PHONE}


def test_the_controller_takes_requests_in_their_order(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.controller.hear(connected(65, SECOND))
    rig.connections.ask(64, WANTED)
    rig.connections.ask(65, WANTED)
    rig.controller.hear(taken())
    rig.controller.hear(taken(0x0C))
    rig.controller.hear(taken(0x0C))  # somebody else's
    assert rig.diary.take()[2:] == [("refused", 65, "another change is under way")]


def test_what_was_not_asked_for_cannot_be_refused(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.controller.hear(updated(64, 0, 0x3B))
    rig.controller.hear(updated(99))
    rig.connections.ask(64, WANTED)
    rig.controller.hear(disconnected(64))
    rig.controller.hear(taken(0x02))
    assert rig.diary.take() == [("connected", 64, PHONE), ("disconnected", 64)]


def test_who_was_connected_before_is_known_without_parameters() -> None:
    rig = Rig()
    rig.controller.listed = (Connection(64, FIRST, 0),)
    rig.connections.open("hci0", lambda: None)
    assert rig.diary.take() == [("connected", 64, None)]
    assert rig.connections.parameters == {}


def test_pairing_may_change_the_address(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.controller.listed = (Connection(64, SECOND, LM_ENCRYPT),)
    assert rig.connections.handle(SECOND) == 64
    assert rig.connections.handle(FIRST) is None
    assert rig.connections.parameters == {SECOND: PHONE}
    assert rig.diary.take() == [("connected", 64, PHONE)]


def test_the_kernel_says_who_is_encrypted(rig: Rig) -> None:
    rig.controller.listed = (Connection(64, FIRST, LM_ENCRYPT), Connection(65, SECOND, 0))
    assert [rig.connections.secured(handle) for handle in (64, 65, 66)] == [True, False, False]
    rig.controller.listed = None
    assert not rig.connections.secured(64)


def test_hanging_up_is_a_command(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    assert rig.connections.hang_up(FIRST)
    assert rig.controller.sent == [disconnect_command(64)]
    assert not rig.connections.hang_up(SECOND)


def test_an_adapter_that_loses_its_links_without_a_word_has_none(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.connections.refresh()
    assert rig.diary.take() == [("connected", 64, PHONE), ("disconnected", 64)]


def test_a_handle_that_comes_again_is_another_connection(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.controller.hear(connected(64, SECOND))
    assert rig.diary.take()[1:] == [("disconnected", 64), ("connected", 64, PHONE)]
    assert rig.connections.handle(FIRST) is None


def test_closing_ends_every_connection_and_opening_again_begins_anew(rig: Rig) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.controller.listed = (Connection(64, FIRST, 0),)
    rig.connections.close()
    rig.connections.close()
    assert rig.controller.closed == 1
    assert rig.diary.take()[1:] == [("disconnected", 64)]
    rig.connections.ask(64, WANTED)
    assert not rig.connections.hang_up(FIRST)
    assert rig.controller.sent == []
    rig.connections.open("hci1", lambda: None)
    rig.connections.open("hci1", lambda: None)
    assert (rig.controller.opened, rig.controller.closed) == (3, 2)


def test_without_permission_one_line_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rig = Rig()
    rig.controller.wrong = PermissionError("CAP_NET_RAW is missing")
    rig.controller.listed = (Connection(64, FIRST, 0),)
    rig.connections.open("hci0", lambda: None)
    rig.connections.open("hci0", lambda: None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "give CAP_NET_RAW" in caplog.text
    assert rig.diary.take() == []
    assert rig.connections.handle(FIRST) is None
    assert not rig.connections.hang_up(FIRST)


def test_an_adapter_that_has_gone_is_no_fault(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.controller.hear(connected(64, FIRST))
    rig.controller.wrong = OSError(19, "No such device")
    rig.connections.ask(64, WANTED)
    assert not rig.connections.hang_up(FIRST)
    rig.connections.open("hci1", lambda: None)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
