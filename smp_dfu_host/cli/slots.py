"""`slots`: a picture of the slots, and what may be done to them from here, under the DFU lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from smp_dfu_host.cli import render
from smp_dfu_host.cli.boot import boot_json
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.image import read_image
from smp_dfu_host.cli.render import Fact, SlotPicture
from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.mcuboot.swap_type import SwapType, TrailerState
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.survey import SlotSurvey, survey_slots, swapping

_NAMES = {
    SwapType.NONE: "none",
    SwapType.TEST: "test",
    SwapType.PERM: "permanent",
    SwapType.REVERT: "revert",
}


@click.group(invoke_without_command=True)
@json_option
@shared_options
@click.pass_context
def slots(context: click.Context, as_json: bool) -> None:
    """Show the slots to scale, and what the next boot will do; the commands change them."""
    if context.invoked_subcommand is not None:
        return
    config = the_config()
    store = SlotStore(config)
    surveys, preview = survey_slots(store), store.preview_boot()
    if as_json:
        show_json(_as_json(config, surveys, preview, store.swap_type()))
    else:
        pictures = [picture(each, _cut(each, surveys)) for each in surveys]
        show(render.slots(pictures, outlook(preview, store.running_slot())))


def picture(each: SlotSurvey, cut: bool) -> SlotPicture:
    """Return what is drawn of a slot; `cut`: a swap of it was interrupted."""
    place = f"{render.size_text(each.size)} at {each.address:#x}"
    return SlotPicture(f"image {each.image}, slot {each.slot}", place, each.segments, tuple(_facts(each, cut)))


def _facts(each: SlotSurvey, cut: bool) -> Iterator[Fact]:
    header = each.found.header
    if header is not None:
        yield Fact("version", str(header.version), "bold")
    if each.view is not None:
        yield Fact("hash", each.view.hash.hex())
        yield render.flags(flags(each))
    yield verdict(each)
    yield Fact("trailer", say_trailer(each.trailer))
    if cut:
        kind = _NAMES[each.trailer.swap_type]
        yield Fact("swap", f"interrupted ({kind}) after {each.steps} steps; the next boot goes on", "bold yellow")


def flags(each: SlotSurvey) -> list[str]:
    """Return the names of what clients are told of a slot's image."""
    names = ("active", "confirmed", "pending", "permanent", "bootable")
    return [name for name in names if getattr(each.view, name, False)]


def verdict(each: SlotSurvey) -> Fact:
    """Say whether the boot loader accepts what is in the slot."""
    found = each.found
    if found.header is None:
        return Fact("image", "none", "bright_black")
    if found.info is None:
        return Fact("image", f"not valid: {found.reason}", "bold red")
    signer = found.info.signed_by
    return Fact("image", f"valid by {'hash' if signer is None else f'signature ({signer.kind})'}", "green")


def say_trailer(state: TrailerState) -> str:
    """Put a trailer in words."""
    return (
        f"magic {state.magic.value}, image_ok {state.image_ok.value}, copy_done {state.copy_done.value}, "
        f"swap_info {_NAMES[state.swap_type]}"
    )


def outlook(preview: BootResult, running: int | None) -> Iterator[Fact]:
    """Say what runs now and what the next boot will do."""
    yield Fact("running", "nothing: no image booted" if running is None else f"slot {running}")
    for number, action in enumerate(preview.actions):
        yield Fact("" if number else "next boot", action, "" if preview.ok else "bold red")


def _cut(each: SlotSurvey, surveys: tuple[SlotSurvey, ...]) -> bool:
    primary, secondary = (other for other in surveys if other.image == each.image)
    return each is primary and swapping(primary, secondary)


def _as_json(
    config: Config, surveys: tuple[SlotSurvey, ...], preview: BootResult, swap_type: SwapType
) -> dict[str, object]:
    return {
        "name": config.name,
        "store": str(config.store),
        "mode": config.bootloader.mode,
        "slots": [_slot_json(each, _cut(each, surveys)) for each in surveys],
        "swap_type": _NAMES[swap_type],
        "next_boot": boot_json(preview),
    }


def _slot_json(each: SlotSurvey, cut: bool) -> dict[str, object]:
    header, view, trailer = each.found.header, each.view, each.trailer
    return {
        "image": each.image,
        "slot": each.slot,
        "size": each.size,
        "address": each.address,
        "version": str(header.version) if header else None,
        "hash": view.hash.hex() if view else None,
        "flags": flags(each),
        "valid": each.found.valid,
        "reason": each.found.reason,
        "trailer": {
            "magic": trailer.magic.value,
            "image_ok": trailer.image_ok.value,
            "copy_done": trailer.copy_done.value,
            "swap_info": _NAMES[trailer.swap_type],
        },
        "swap": {"interrupted": cut, "steps": each.steps},
        "segments": [{"part": one.part.value, "offset": one.offset, "size": one.size} for one in each.segments],
    }


@contextmanager
def changing(config: Config) -> Iterator[SlotStore]:
    """Open the store and hold the DFU lock, so that no client interferes.

    Raises:
        LockHeld: If another owner holds it; the message says who.
    """
    store = SlotStore(config)
    owner = LockOwner(f"local:{os.getpid()}")
    lock = DfuLock(store.layout.lock, enabled=config.dfu.lock)
    lock.claim(owner)
    try:
        yield store
    finally:
        lock.release(owner)


def _digest(store: SlotStore, slot: int) -> bytes:
    if slot not in store.layout.slots:
        raise click.BadParameter(f"{slot}: there are slots 0 to {store.layout.slots[-1]}", param_hint="SLOT")
    listed = store.listed(slot)
    if listed is None:
        raise StoreError(f"slot {slot} holds no image")
    return listed.hash


def _say(store: SlotStore, text: str) -> None:
    click.echo(text)
    actions = store.preview_boot().actions
    click.echo(f"next boot: {'; '.join(actions)}")


@slots.command()
@click.argument("slot", type=click.IntRange(min=0), required=False)
@shared_options
def test(slot: int | None) -> None:
    """Have the image in SLOT run for one boot; without SLOT, that of the slot that does not run."""
    with changing(the_config()) as store:
        chosen = store.upload_slot() if slot is None else slot
        store.set_state(_digest(store, chosen), confirm=False)
        _say(store, f"slot {chosen} is to be tested")


@slots.command()
@click.argument("slot", type=click.IntRange(min=0), required=False)
@shared_options
def confirm(slot: int | None) -> None:
    """Keep the running image; with SLOT, have the image in that slot run from the next boot on."""
    with changing(the_config()) as store:
        digest = None if slot is None else _digest(store, slot)
        done = store.set_state(digest, confirm=True)
        running = store.running_slot()
        which = running if slot is None else slot
        _say(
            store, f"slot {which} is confirmed" + ("" if done is not None or which != running else " (it was already)")
        )


@slots.command()
@click.argument("slot", type=click.IntRange(min=0), required=False)
@shared_options
def erase(slot: int | None) -> None:
    """Erase SLOT; without SLOT, the slot that does not run."""
    with changing(the_config()) as store:
        chosen = store.upload_slot() if slot is None else slot
        store.erase(chosen)
        _say(store, f"slot {chosen} is erased")


@slots.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--slot", type=click.IntRange(min=0), metavar="N", help="Default: the slot that does not run.")
@click.option("--check/--no-check", default=True, help="Refuse what the boot loader would refuse (default).")
@shared_options
def load(file: Path, slot: int | None, check: bool) -> None:
    """Put an image FILE, or the dump of a whole slot, into a slot; the rest of the slot is erased."""
    data = read_image(file)
    with changing(the_config()) as store:
        runs = store.running_slot() is not None
        chosen = slot if slot is not None else store.upload_slot() if runs else 0
        store.load(chosen, data, check=check)
        _say(store, f"slot {chosen} holds {file} now, {len(data)} bytes")
