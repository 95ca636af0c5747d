"""The policy behind the agent, without D-Bus."""

import asyncio
from pathlib import Path

import pytest

from smp_dfu_host.transport.ble import pairing, window
from smp_dfu_host.transport.ble.pairing import NobodyThere, Pairing

PHONE, MOUSE = "dev_phone", "dev_mouse"


class Desk:
    """A person who answers when the test wants it."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()

    def show(self, address: str, passkey: str) -> None:
        self.shown[address] = passkey

    async def confirm(self, address: str, number: str) -> bool:
        self.shown[address] = number
        self.asked.set()
        return await self.answer

    def done(self, address: str) -> None:
        self.shown.pop(address, None)


class Office:
    """A policy and everybody around it."""

    def __init__(self, policy: str, window_in: Path | None = None) -> None:
        self.desk = Desk()
        self.dropped: list[str] = []
        self.pairing = Pairing(
            policy,
            self.desk,
            is_central=lambda key: key == PHONE,
            address=lambda key: key.removeprefix("dev_"),
            drop=self.dropped.append,
            window_in=window_in,
        )


async def test_just_works_lets_centrals_in_and_nobody_else() -> None:
    pairing = Office("just-works").pairing
    assert pairing.authorize(PHONE) == ""
    assert pairing.agreed(PHONE) == "just-works"
    assert pairing.authorize(MOUSE) == "it is no central of ours"
    assert pairing.agreed(MOUSE) == ""
    pairing.left(PHONE)
    assert pairing.agreed(PHONE) == ""


async def test_reject_lets_nobody_in_whatever_is_asked() -> None:
    office = Office("reject")
    assert office.pairing.authorize(PHONE) == "[transport.ble] pairing = reject"
    assert office.pairing.unasked(PHONE) == "[transport.ble] pairing = reject"
    assert office.pairing.show(PHONE, 1) == "[transport.ble] pairing = reject"
    assert await office.pairing.confirm(PHONE, 1) == "[transport.ble] pairing = reject"
    assert office.dropped == [PHONE]


async def test_a_passkey_is_shown_once_with_leading_zeros_until_the_bond_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    office = Office("passkey")
    for _digit in range(3):
        assert office.pairing.show(PHONE, 42) == ""
    assert office.desk.shown == {"phone": "000042"}
    assert caplog.text.count("type the passkey 000042 there") == 1
    office.pairing.bonded(PHONE)
    assert office.desk.shown == {}
    assert office.pairing.agreed(PHONE) == "passkey"


async def test_a_passkey_that_may_not_be_shown_costs_the_connection_for_bluetoothd_hears_no_refusal(
    tmp_path: Path,
) -> None:
    office = Office("passkey", tmp_path)
    assert "window is closed" in office.pairing.show(PHONE, 42)
    assert office.desk.shown == {}
    assert office.dropped == [PHONE]
    assert office.pairing.show(MOUSE, 42) == "it is no central of ours"
    assert office.dropped == [PHONE]


@pytest.mark.parametrize("policy", ["passkey", "confirm"])
async def test_a_central_that_can_neither_type_nor_compare_is_refused(policy: str) -> None:
    pairing = Office(policy).pairing
    assert pairing.authorize(PHONE) == f"[transport.ble] pairing = {policy}, and it can only pair by just-works"
    assert pairing.unasked(PHONE) != ""


async def test_who_was_agreed_to_by_passkey_and_pairs_otherwise_is_not_agreed_to_any_more() -> None:
    pairing = Office("passkey").pairing
    assert pairing.show(PHONE, 42) == ""
    assert pairing.authorize(PHONE) != ""
    assert pairing.agreed(PHONE) == ""


async def test_the_window_decides_at_the_moment_of_the_question(tmp_path: Path) -> None:
    pairing = Office("just-works", tmp_path).pairing
    closed = "the pairing window is closed; open one: smp-dfu-host ble pair"
    assert pairing.authorize(PHONE) == closed
    window.open_window(tmp_path, 60)
    assert pairing.authorize(PHONE) == ""
    window.close_window(tmp_path)
    assert pairing.authorize(PHONE) == closed


@pytest.mark.parametrize("same", [True, False])
async def test_a_person_compares_the_numbers(same: bool) -> None:
    office = Office("confirm")
    asking = asyncio.ensure_future(office.pairing.confirm(PHONE, 7))
    await office.desk.asked.wait()
    assert office.desk.shown == {"phone": "000007"}
    office.desk.answer.set_result(same)
    assert (await asking == "") is same
    assert office.pairing.agreed(PHONE) == ("confirm" if same else "")
    assert office.desk.shown == {}


async def test_a_window_that_closes_before_the_answer_refuses_it(tmp_path: Path) -> None:
    office = Office("confirm", tmp_path)
    window.open_window(tmp_path, 60)
    asking = asyncio.ensure_future(office.pairing.confirm(PHONE, 7))
    await office.desk.asked.wait()
    window.close_window(tmp_path)
    office.desk.answer.set_result(True)
    assert "window is closed" in await asking


async def test_no_answer_in_time_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "CONFIRM_S", 0.01)
    office = Office("confirm")
    assert await office.pairing.confirm(PHONE, 7) == "nobody has confirmed that both show the same number"
    assert office.desk.answer.cancelled()


async def test_a_question_that_bluetoothd_takes_back_is_no() -> None:
    office = Office("confirm")
    asking = asyncio.ensure_future(office.pairing.confirm(PHONE, 7))
    await office.desk.asked.wait()
    office.pairing.cancel()
    assert await asking != ""
    assert office.desk.shown == {}


async def test_without_a_person_passkeys_are_in_the_log_and_comparisons_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nobody = NobodyThere()
    nobody.show("phone", "000042")
    nobody.done("phone")
    assert not await nobody.confirm("phone", "000042")
    assert "no terminal to compare 000042 on" in caplog.text
