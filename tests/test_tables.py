"""smp_dfu_host/docs/reference.md says what the code says."""

import re

from smp_dfu_host.dispatch import hooks
from smp_dfu_host.hook_events import Event
from tests.tables import FILE, codes, document, our_groups


def test_the_reference_is_current() -> None:
    assert FILE.read_text() == document(), "run python -m tests.tables --write"


def test_every_group_has_its_codes_and_every_command_a_text() -> None:
    assert [kind.id for kind in our_groups()] == [0, 1, 2, 3, 8, 9, 10, 63]
    for kind in our_groups():
        assert codes(kind)[0].name in {"UNKNOWN", "OK"}
        assert set(kind.v0_rc) <= {int(code) for code in codes(kind)}
    assert "|  |\n" not in document()


def test_every_event_names_its_data() -> None:
    for event in Event:
        assert event.data in {"None", "tuple"} or hasattr(hooks, event.data)
    assert len({event.label for event in Event}) == len(Event)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", event.label) for event in Event)
    assert Event.CMD_RECV.symbol == "MGMT_EVT_OP_CMD_RECV"
    assert Event.IMG_DFU_PENDING.symbol == "MGMT_EVT_OP_IMG_MGMT_DFU_PENDING"
