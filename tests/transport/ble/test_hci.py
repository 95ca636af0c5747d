from smp_dfu_host.transport.ble.hci import Connection, connections, incoming, parse

LE, ACL = 0x80, 0x01
AUTH, ENCRYPT = 0x02, 0x04


def connection(number: int, kind: int, out: int, mode: int = 0) -> bytes:
    """One hci_conn_info; the address is stored last byte first."""
    return bytes((64 + number, 0, number, 0, 0, 0, 0, 0xAA, kind, out, 1, 0, mode, 0, 0, 0))


def test_only_le_connections_that_came_in_are_centrals() -> None:
    rows = [connection(1, LE, 0), connection(2, LE, 1), connection(3, ACL, 0), connection(4, LE, 0, AUTH | ENCRYPT)]
    answer = bytes((0, 0, len(rows), 0)) + b"".join(rows) + bytes(60 * 16)
    found = parse(answer)
    assert found == (Connection(65, "AA:00:00:00:00:01", 0), Connection(68, "AA:00:00:00:00:04", AUTH | ENCRYPT))
    assert [each.encrypted for each in found] == [False, True]


def test_no_connection_is_an_empty_list() -> None:
    assert parse(bytes(4 + 64 * 16)) == ()


def test_an_adapter_that_is_not_there_cannot_be_asked() -> None:
    for adapter in ("hci999", "nonsense", "hci99999999"):
        assert connections(adapter) is None
        assert incoming(adapter) is None
