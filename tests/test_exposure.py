"""What is open when nothing is configured."""

import socket
from pathlib import Path

import pytest

from smp_dfu_host.config import Config, parse
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import ConfigError
from smp_dfu_host.server import make_transports, served_kinds
from smp_dfu_host.transport.udp import UdpTransport
from tests.transport.inbox import RecordingInbox

ALWAYS = {0, 1, 2, 3, 10, 63}
"""Groups that are served unless `smp.groups` says otherwise."""


def test_no_transport_is_on() -> None:
    with pytest.raises(ConfigError, match="no transport is enabled"):
        make_transports(Config(), Statistics())


async def test_udp_listens_on_loopback() -> None:
    config = parse({"transport": {"udp": {"enabled": True, "port": 0}}}, Path("/"))
    (transport,) = make_transports(config, Statistics())
    assert isinstance(transport, UdpTransport)
    where = await transport.open(RecordingInbox())
    try:
        assert where["host"] == "127.0.0.1"
        assert listening("udp") >= {("127.0.0.1", where["port"])}
        assert ("0.0.0.0", where["port"]) not in listening("udp")
    finally:
        await transport.close()


def listening(kind: str) -> set[tuple[str, int]]:
    """Return the IPv4 addresses and ports that are bound in this network namespace (proc(5), net/udp)."""
    found = set()
    for line in Path(f"/proc/net/{kind}").read_text(encoding="ascii").splitlines()[1:]:
        address, port = line.split()[1].split(":")
        found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def test_bluetooth_wants_an_encrypted_link() -> None:
    assert Config().transport.ble.security == "encrypt"
    assert not Config().transport.ble.enabled


def test_no_files_and_no_commands_are_served() -> None:
    assert {kind.id for kind in served_kinds(Config())} == ALWAYS


def test_groups_can_be_left_out() -> None:
    config = parse({"smp": {"groups": ["os_mgmt", "img_mgmt"]}}, Path("/"))
    assert [kind.id for kind in served_kinds(config)] == [0, 1]


def test_the_hosts_clock_and_the_host_itself_are_left_alone() -> None:
    assert Config().os.datetime == "offset"
