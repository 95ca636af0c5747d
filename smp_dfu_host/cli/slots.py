"""`slots`: a picture of the slots, and what may be done to them from here, under the DFU lock."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from smp_dfu_host.cli import render
from smp_dfu_host.cli.boot_result import boot_json
from smp_dfu_host.cli.changing import SlotNumber, changing, check_slot, say_next
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.explain import explanation, explanation_json
from smp_dfu_host.cli.explain import verdict as said
from smp_dfu_host.cli.render import Fact, SlotPicture
from smp_dfu_host.cli.slot_files import diff, export, history, import_
from smp_dfu_host.config import Config
from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.swap_type import Magic, SwapType, TrailerState
from smp_dfu_host.store.explain import Explanation, SlotVerdict, explain
from smp_dfu_host.store.image_files import ImageFile, destinations, read_files
from smp_dfu_host.store.incoming import Incoming
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.rules import NAMES, Rule
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.survey import ScratchSurvey, Segment, SlotSurvey, survey_scratch, survey_slots


@click.group(invoke_without_command=True)
@json_option
@shared_options
@click.pass_context
def slots(context: click.Context, as_json: bool) -> None:
    """Show the slots to scale, and what the next boot will do. The commands change them."""
    if context.invoked_subcommand is not None:
        return
    config = the_config()
    store = SlotStore(config)
    surveys, scratch, found = survey_slots(store), survey_scratch(store), explain(config)
    if as_json:
        show_json(_as_json(config, surveys, scratch, found, store.swap_type()))
    else:
        pictures = [picture(each, _cut(each, found), found.verdict(each.slot)) for each in surveys]
        pictures += [scratch_picture(each) for each in [scratch] if each]
        show(render.slots(pictures, [running(store), *explanation(found, config)]))


def picture(each: SlotSurvey, cut: Rule | None, next_boot: SlotVerdict) -> SlotPicture:
    """Return what is drawn of a slot; `cut`: what goes on with an interrupted swap of it."""
    place = f"{render.size_text(each.size)} at {each.address:#x}"
    return SlotPicture(
        f"image {each.image}, slot {each.slot}", place, each.segments, (*_facts(each, cut), said(next_boot))
    )


def scratch_picture(each: ScratchSurvey) -> SlotPicture:
    """Return what is drawn of the scratch area."""
    place = f"{render.size_text(each.size)} at {each.address:#x}"
    said = say_trailer(each.trailer) if each.trailer.magic is Magic.GOOD else "none: no swap is under way from here"
    return SlotPicture("scratch", place, each.segments, (Fact("trailer", said),))


def _facts(each: SlotSurvey, cut: Rule | None) -> Iterator[Fact]:
    header = each.found.header
    if header is not None:
        yield Fact("version", str(header.version), "bold")
    if each.view is not None:
        yield Fact("hash", each.view.hash.hex())
        if not cut:
            yield render.flags(flags(each))
    yield verdict(each)
    yield Fact("trailer", say_trailer(each.trailer))
    if cut:
        kind = NAMES[cut.asked]
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
        f"swap_info {NAMES[state.swap_type]}"
    )


def running(store: SlotStore) -> Fact:
    """Say what runs now."""
    if store.state().unfinished:
        return Fact("running", "nothing: the power failed during a swap", "bold yellow")
    slots = [store.running_slot(image) for image in range(store.layout.images)]
    names = ", ".join(f"slot {slot}" for slot in slots if slot is not None)
    return Fact("running", names or "nothing: no image booted")


def _cut(each: SlotSurvey, found: Explanation) -> Rule | None:
    """Return the rule that goes on with a swap that was cut, on the slot that it began in; None: none was cut."""
    rule = found.rule(each.image)
    return rule if rule.cut and each.slot % SLOTS_OF_IMAGE == 0 else None


def _as_json(
    config: Config,
    surveys: tuple[SlotSurvey, ...],
    scratch: ScratchSurvey | None,
    found: Explanation,
    swap_type: SwapType,
) -> dict[str, object]:
    return {
        "name": config.name,
        "store": str(config.store),
        "mode": config.bootloader.mode,
        "slots": [_slot_json(each, _cut(each, found) is not None) for each in surveys],
        "scratch": _scratch_json(scratch) if scratch else None,
        "swap_type": NAMES[swap_type],
        "next_boot": boot_json(found.next_boot),
        "explanation": explanation_json(found),
    }


def _slot_json(each: SlotSurvey, cut: bool) -> dict[str, object]:
    header, view = each.found.header, each.view
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
        "trailer": _trailer_json(each.trailer),
        "swap": {"interrupted": cut, "steps": each.steps},
        "segments": _segments_json(each.segments),
    }


def _scratch_json(each: ScratchSurvey) -> dict[str, object]:
    return {
        "size": each.size,
        "address": each.address,
        "trailer": _trailer_json(each.trailer),
        "segments": _segments_json(each.segments),
    }


def _trailer_json(state: TrailerState) -> dict[str, object]:
    return {
        "magic": state.magic.value,
        "image_ok": state.image_ok.value,
        "copy_done": state.copy_done.value,
        "swap_info": NAMES[state.swap_type],
    }


def _segments_json(segments: tuple[Segment, ...]) -> list[dict[str, object]]:
    return [{"part": one.part.value, "offset": one.offset, "size": one.size} for one in segments]


def _digest(store: SlotStore, slot: int) -> bytes:
    check_slot(store, slot)
    store.state().check_finished()  # the image may lie in pieces
    listed = store.listed(slot)
    if listed is None:
        raise StoreError(f"slot {slot} holds no image")
    return listed.hash


def _say(store: SlotStore, text: str) -> None:
    click.echo(text)
    say_next(store)


@slots.command()
@click.argument("slot", type=SlotNumber(), required=False)
@shared_options
def test(slot: int | None) -> None:
    """Have the image in SLOT run for one boot. Without SLOT: of the slot that does not run."""
    with changing(the_config()) as store:
        chosen = store.upload_slot() if slot is None else slot
        store.set_state(_digest(store, chosen), confirm=False, slot=chosen)
        _say(store, f"slot {chosen} is to be tested")


@slots.command()
@click.argument("slot", type=SlotNumber(), required=False)
@shared_options
def confirm(slot: int | None) -> None:
    """Keep the running image. With SLOT, have the image in that slot run from the next boot on."""
    with changing(the_config()) as store:
        digest = None if slot is None else _digest(store, slot)
        done = store.set_state(digest, confirm=True, slot=slot)
        running = store.running_slot()
        which = running if slot is None else slot
        _say(
            store, f"slot {which} is confirmed" + ("" if done is not None or which != running else " (it was already)")
        )


@slots.command()
@click.argument("slot", type=SlotNumber(), required=False)
@shared_options
def erase(slot: int | None) -> None:
    """Erase SLOT; without SLOT, the slot that does not run."""
    with changing(the_config()) as store:
        chosen = store.upload_slot() if slot is None else slot
        check_slot(store, chosen)
        store.erase(chosen)
        _say(store, f"slot {chosen} is erased")


@slots.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--slot", type=SlotNumber(), metavar="N", help="Default: the slot that does not run.")
@click.option("--check/--no-check", default=True, help="Refuse what the boot loader would refuse (default).")
@shared_options
def load(file: Path, slot: int | None, check: bool) -> None:
    """Put an image FILE, or the dump of a whole slot, into a slot.

    The rest of the slot is erased. FILE is raw bytes, Intel HEX, or the package (.zip with manifest.json) that the
    phone apps take; of a package, each image goes where it belongs, all of them or none.
    A .hex with the address of another slot is refused where images run in place (direct-xip).
    """
    config = the_config()
    files = read_files(file, erased=config.flash.erased)
    with changing(config) as store:
        if slot is not None:
            check_slot(store, slot, "--slot")
        slots, free = len(store.layout.slots), partial(free_slot, store)
        going = destinations(files, slot, free, slots, where=str(file))
        store.load_all([_incoming(file, number, each) for number, each in going], check=check)
        for chosen, each in going:
            name = file if len(files) == 1 else f"{each.name} of {file}"
            click.echo(f"slot {chosen} holds {name} now, {len(each.data)} bytes")
        say_next(store)


def _incoming(file: Path, slot: int, each: ImageFile) -> Incoming:
    name = str(file) if each.image is None else f"{file}: {each.name} for slot {slot}"
    return Incoming(slot, each.data, name, each.address)


def free_slot(store: SlotStore, image: int) -> int:
    """Return the slot that a new image goes to: the one that does not run; slot 0 of its pair while none does."""
    return store.upload_slot(image) if store.running_slot(image) is not None else image * SLOTS_OF_IMAGE


for _command in (diff, export, import_, history):
    slots.add_command(_command)
