from smp_dfu_host.transport.ble.hci import incoming, parse

LE, ACL = 0x80, 0x01


def connection(number: int, kind: int, out: int) -> bytes:
    """One hci_conn_info; the address is stored last byte first."""
    return bytes((64 + number, 0, number, 0, 0, 0, 0, 0xAA, kind, out, 1, 0, 0, 0, 0, 0))


def test_only_le_connections_that_came_in_are_centrals() -> None:
    rows = [connection(1, LE, 0), connection(2, LE, 1), connection(3, ACL, 0), connection(4, LE, 0)]
    answer = bytes((0, 0, len(rows), 0)) + b"".join(rows) + bytes(60 * 16)
    assert parse(answer) == {"AA:00:00:00:00:01", "AA:00:00:00:00:04"}


def test_no_connection_is_an_empty_set() -> None:
    assert parse(bytes(4 + 64 * 16)) == frozenset()


def test_an_adapter_that_is_not_there_cannot_be_asked() -> None:
    assert incoming("hci999") is None
    assert incoming("nonsense") is None
    assert incoming("hci99999999") is None
