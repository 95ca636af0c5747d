"""What can be said of the raw socket where there is no Bluetooth; the rest is tested in the virtual machine."""

import pytest

from smp_dfu_host.transport.ble.hci_socket import HciSocket


async def test_an_adapter_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"\[Errno"):
        HciSocket("hci4711", lambda _packet: None)
