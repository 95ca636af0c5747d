"""What a target needs of Bluetooth: adapter, bluetoothd, permission, main.conf, and an echo over the air."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from smp_dfu_host.cli.render import Check, Level
from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_version import Version
from smp_dfu_host.transport.ble.link import SMP_SERVICE
from smp_dfu_host.transport.ble.main_conf import Conf, channels
from smp_dfu_host.transport.ble.probe import Adapter, echo, look
from smp_dfu_host.transport.ble.rfkill import blocked

SYSFS = Path("/sys/class")


def adapter_present(wanted: str, sysfs: Path = SYSFS) -> Check:
    """Check that the kernel has the adapter, and that no switch keeps it off; of an address or of nothing, any."""
    found = sorted(each.name for each in (sysfs / "bluetooth").glob("hci*") if ":" not in each.name)
    if not found:
        todo = "plug one in, or load its driver (modprobe btusb, hciuart.service on a Raspberry Pi)"
        return _check("adapter", Level.BAD, "the kernel has no Bluetooth adapter", todo)
    named = [wanted] if wanted.startswith("hci") else found
    if named[0] not in found:
        return _check("adapter", Level.BAD, f"no {wanted}; there is {', '.join(found)}", f"--adapter {found[0]}")
    if all(blocked(name, sysfs / "rfkill") for name in named):
        return _check("adapter", Level.BAD, f"{', '.join(named)} switched off by rfkill", "rfkill unblock bluetooth")
    return _check("adapter", Level.GOOD, ", ".join(found))


def chosen(adapters: Sequence[Adapter], wanted: str, *, ours: bool) -> str:
    """Return the name of the adapter that the target uses or would use; `ours`: our target runs already."""
    if wanted:
        return next((each.name for each in adapters if wanted.upper() == each.address), wanted)
    serving = [each for each in adapters if each.powered and each.serves_gatt]
    fitting = [each for each in serving if (SMP_SERVICE in each.services) is ours]
    return next((each.name for each in [*fitting, *serving, *adapters]), "hci0")


def served(adapters: Sequence[Adapter], name: str, *, ours: bool) -> Iterator[Check]:
    """Check what bluetoothd says of the adapter that the target is to use; `ours`: our target runs already."""
    adapter = next((each for each in adapters if each.name == name), None)
    if adapter is None:
        yield _check(name, Level.BAD, "bluetoothd does not have it", "systemctl restart bluetooth")
        return
    if not adapter.powered:
        yield _check(name, Level.BAD, f"{adapter.address} is off", "bluetoothctl power on")
    elif adapter.roles and not any("peripheral" in role for role in adapter.roles):
        yield _check(name, Level.BAD, f"cannot be a peripheral, only {', '.join(adapter.roles)}", "use another adapter")
    elif not adapter.serves_gatt:
        yield _check(
            name, Level.BAD, "bluetoothd offers no GATT server on it", "set ControllerMode = dual in main.conf"
        )
    else:
        yield _check(name, Level.GOOD, f"{adapter.address}, takes {adapter.advertisements} advertisement(s) more")
    if SMP_SERVICE in adapter.services:
        todo = "" if ours else "end it before starting another: clients that see two fail"
        level = Level.GOOD if ours else Level.ADVICE
        yield _check("SMP service", level, f"a target is registered on {name} already", todo)


def settings(conf: Conf, version: Version | None) -> Iterator[Check]:
    """Check the settings of main.conf that matter to a peripheral (bluez src/main.conf)."""
    gatt, general = conf.get("GATT", {}), conf.get("General", {})
    if general.get("ControllerMode") == "bredr":
        yield _setting(Level.BAD, "[General] ControllerMode = bredr", "set it to dual or le: there is no LE without")
    if (count := channels(conf, version)) != 1:
        found = f"[GATT] Channels = {count}: fragments can overtake each other, and `serve` refuses that"
        yield _setting(Level.BAD, found, "set [GATT] Channels = 1")
    if (privacy := general.get("Privacy", "off")) not in ("off", "false"):
        found = f"[General] Privacy = {privacy}: the address changes, and phones do not know the target again"
        yield _setting(Level.ADVICE, found, "set [General] Privacy = off")
    if general.get("ReverseServiceDiscovery", "true") != "false" and gatt.get("Client", "true") != "false":
        found = "[General] ReverseServiceDiscovery = true: phones may be asked to pair by BlueZ's own reads"
        yield _setting(Level.ADVICE, found, "set [General] ReverseServiceDiscovery = false")
    if general.get("JustWorksRepairing", "never") == "never":
        found = "[General] JustWorksRepairing = never: a phone that forgot the bond is refused"
        yield _setting(Level.ADVICE, found, "set [General] JustWorksRepairing = confirm")
    if (mtu := gatt.get("ExchangeMTU", "517")) != "517":
        yield _setting(Level.ADVICE, f"[GATT] ExchangeMTU = {mtu}: small fragments are slow", "set it to 517")


def _setting(level: Level, found: str, todo: str) -> Check:
    return _check("main.conf", level, found, f"{todo}; then systemctl restart bluetooth")


async def over_the_air(adapters: Sequence[Adapter], name: str) -> Check:
    """Echo to the target from another adapter, if there is one and a target is on the air."""
    other = next((each for each in adapters if each.name != name and each.powered), None)
    own = next((each for each in adapters if each.name == name), None)
    if other is None:
        return _check("echo", Level.SKIPPED, "needs a second adapter")
    if own is None or SMP_SERVICE not in own.services:
        return _check("echo", Level.SKIPPED, f"no target runs on {name}")
    try:
        heard = await echo(other.name, own.address)
    except TransportError as exc:
        return _check("echo", Level.BAD, str(exc), "look at the log of the target")
    if heard is None:
        return _check("echo", Level.BAD, f"{other.name} does not hear the target", "end other scans and connections")
    return _check("echo", Level.GOOD, f"{heard.name} {heard.address} by {other.name}: {heard.seconds * 1000:.0f} ms")


async def all_checks(config: BleConfig, *, ours: bool) -> AsyncIterator[Check]:
    """Run every check of this file; what needs something that is missing is left out."""
    yield (present := adapter_present(config.adapter))
    try:
        host = await look()
    except TransportError as exc:
        problem, _, todo = str(exc).partition("; ")
        yield _check("bluetoothd", Level.BAD, problem, todo)
        return
    version = ".".join(map(str, host.version)) if host.version else "of unknown version"
    yield _check("bluetoothd", Level.GOOD, f"BlueZ {version} answers on D-Bus")
    for check in settings(host.conf, host.version):
        yield check
    if present.level is Level.GOOD:
        name = chosen(host.adapters, config.adapter, ours=ours)
        for check in served(host.adapters, name, ours=ours):
            yield check
        yield await over_the_air(host.adapters, name)


def _check(name: str, level: Level, found: str, todo: str = "") -> Check:
    return Check(name, level, found, todo, bluetooth=True)
