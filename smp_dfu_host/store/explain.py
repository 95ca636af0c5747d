"""Why an image will or will not boot next, in words: which rule decides, and what a reset, a test, a confirm would do.

Nothing is guessed. Which rule it is, is read from the flash as the boot loader reads it; what comes of it, by doing it
on a copy of the whole store, with the same boot loader and the same checks of requests.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from smp_dfu_host.config import Config
from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.options import BootResult, Mode
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.update import CALLED_OFF
from smp_dfu_host.store.commit import STAGED
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.rules import NAMES, NO_ROW, Rule, the_rule
from smp_dfu_host.store.slot_files import SlotFiles
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.survey import SlotSurvey, present_images, survey_slots

_MEMORY = Path("/dev/shm")  # noqa: S108  (a folder of the user's own is made in it)
"""Where copies are made if it is there: syncing them costs nothing."""
LOADER = "reset, loader asked for"
"""A reset with boot mode 1, in firmware-loader mode."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs of one image after a boot."""

    slot: int | None
    """Counted through all images; None: nothing."""
    version: str
    """Empty: the slot does not read as an image."""
    hash: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One boot of a dry run."""

    result: BootResult
    running: tuple[Running, ...]
    """Image by image."""
    left: frozenset[bytes]
    """Hashes of all images that are still in a slot."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would come of a request and the two resets after it."""

    what: str
    """`reset`, `LOADER`, `test` or `confirm`."""
    image: int
    slot: int | None
    """Counted through all images; None: all of them."""
    refused: str
    """Why it would be refused; empty if it would not."""
    steps: tuple[Step, ...]
    """The boots; none if it would be refused."""

    @property
    def text(self) -> str:
        """The outcome in words."""
        return self.say(self.image)

    def say(self, image: int) -> str:
        """Return the outcome for an image in words."""
        if self.refused:
            return f"refused: {self.refused}"
        first, second = self.steps
        after = _say(second, image)
        if (now := _say(first, image)) == after:
            return f"{now}, and stays" if first.result.ok else now
        unless = "" if self.what == LOADER else ", unless somebody confirms"
        return f"{now}; at the reset after that{unless}: {after}"


@dataclass(frozen=True, slots=True)
class SlotVerdict:
    """Whether the image in a slot runs after the next boot, and why."""

    slot: int
    """Counted through all images."""
    boots: bool
    why: str


@dataclass(frozen=True, slots=True)
class ImageExplanation:
    """What the next boot makes of one image."""

    image: int
    rule: Rule
    verdicts: tuple[SlotVerdict, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the next boot does, why, and what else could be done first."""

    next_boot: BootResult
    images: tuple[ImageExplanation, ...]
    outcomes: tuple[Outcome, ...]

    def rule(self, image: int) -> Rule:
        """Return the rule that decides about an image."""
        return next(each.rule for each in self.images if each.image == image)

    def verdict(self, slot: int) -> SlotVerdict:
        """Return the verdict on a slot."""
        return next(each for image in self.images for each in image.verdicts if each.slot == slot)


def explain(config: Config) -> Explanation:
    """Look at a store, and try on copies of it what could be done.

    Raises:
        StoreError: If it cannot be read or copied.
    """
    store = SlotStore(config)
    with _copied(store, config) as fresh:
        base = fresh()
        found = list(zip(survey_slots(base), present_images(base), strict=True))
        slots = [_Slot(each, listed.hash if listed else None) for each, listed in found]
        rules = _rules(base)
        requests = [request for image in rules for request in _requests(base, image)]
        resets = [Outcome("reset", 0, None, "", _boots(base))]
        if base.options.mode is Mode.FIRMWARE_LOADER:
            resets.append(Outcome(LOADER, 0, None, "", _boots(fresh(), loader=True)))
        others = [_try(what, slot, fresh()) for what, slot in requests]
    step = resets[0].steps[0]
    rules = {image: _called_off(rule, step) for image, rule in rules.items()}
    images = tuple(ImageExplanation(image, rule, _verdicts(image, rule, slots, step)) for image, rule in rules.items())
    return Explanation(step.result, images, (*resets, *others))


@contextmanager
def _copied(store: SlotStore, config: Config) -> Iterator[Callable[[], SlotStore]]:
    """Give a maker of stores that begin as the store is; they are gone afterwards."""
    where = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="smp-dfu-host-", dir=where) as name:
        origin = Path(name) / "0"
        _copy(store, origin)
        count = 0

        def fresh() -> SlotStore:
            nonlocal count
            count += 1
            copy = Path(name) / str(count)
            shutil.copytree(origin, copy)
            return SlotStore(replace(config, store=copy))

        yield fresh


def _copy(store: SlotStore, to: Path) -> None:
    """Copy the store as it is at one moment."""
    ignored = shutil.ignore_patterns("*.lock", "upload.*", "*.new", f"*{STAGED}", store.layout.history.name)
    with SlotFiles(store.layout).exclusive():
        try:
            shutil.copytree(store.layout.folder, to, ignore=ignored)
        except (OSError, shutil.Error) as exc:
            raise StoreError(f"{store.layout.folder}: no copy can be made for the dry runs: {exc}") from exc


def _rules(store: SlotStore) -> dict[int, Rule]:
    with store.reading() as areas:
        loader = store.bootloader(areas)
        return {image: the_rule(store.options, loader, image, areas) for image in range(store.layout.images)}


def _called_off(rule: Rule, step: Step) -> Rule:
    """Return the rule that decides in the end: a dependency, if one called off what the first one asks for."""
    if not rule.asked.upgrades or rule.resumes or not (said := _dependency(step)):
        return rule
    who, _, wanted = said.partition(f": {CALLED_OFF}: ")
    follows = f"{CALLED_OFF}, though {rule.name} asks for {NAMES[rule.asked]}"
    return replace(rule, name=f"dependency of {who}", condition=wanted, follows=follows)


def _dependency(step: Step) -> str:
    """Return the sentence that called all updates off, `image 0: no image is changed: ...`; empty: there is none."""
    return next((action for action in step.result.actions if f": {CALLED_OFF}: " in action), "")


def _requests(store: SlotStore, image: int) -> Iterator[tuple[str, int]]:
    """Name what could be asked for: each image that does not run can be tested or confirmed, the others confirmed."""
    present = {slot for slot, listed in enumerate(present_images(store)) if listed}
    running = store.running_slot(image)
    pair = [slot for slot in store.layout.slots if slot // SLOTS_OF_IMAGE == image and slot in present]
    if running in pair:
        yield "confirm", running
    for slot in pair:
        if slot != running:
            yield "test", slot
            yield "confirm", slot


def _try(what: str, slot: int, store: SlotStore) -> Outcome:
    image = slot // SLOTS_OF_IMAGE
    listed = present_images(store)[slot]
    try:
        store.set_state(listed.hash if listed else None, confirm=what == "confirm", slot=slot)
    except StoreError as exc:
        return Outcome(what, image, slot, str(exc), ())
    return Outcome(what, image, slot, "", _boots(store))


def _boots(store: SlotStore, *, loader: bool = False) -> tuple[Step, ...]:
    return _boot(store, loader=loader), _boot(store)


def _boot(store: SlotStore, *, loader: bool = False) -> Step:
    result = store.boot(loader=loader)
    listed = present_images(store)
    running = []
    for image in range(store.layout.images):
        slot = store.running_slot(image)
        found = None if slot is None else listed[slot]
        version = str(found.header.version) if found else ""
        running.append(Running(slot, version, found.hash if found else b""))
    return Step(result, tuple(running), frozenset(each.hash for each in listed if each))


def _say(step: Step, image: int) -> str:
    if not step.result.ok:
        return f"no image boots: {step.result.stopped or '; '.join(step.result.actions) or 'no image is there'}"
    running = step.running[image]
    return f"version {running.version or '?'} runs from slot {running.slot}"


@dataclass(frozen=True, slots=True)
class _Slot:
    """What is in a slot before the boot."""

    survey: SlotSurvey
    hash: bytes | None
    """None: no image."""

    @property
    def number(self) -> int:
        """Counted through all images."""
        return self.survey.slot


def _verdicts(image: int, rule: Rule, slots: list[_Slot], step: Step) -> tuple[SlotVerdict, ...]:
    pair = [each for each in slots if each.survey.image == image]
    chosen = _chosen(image, pair, step)
    return tuple(SlotVerdict(each.number, each.number == chosen, _why(each, chosen, rule, step)) for each in pair)


def _chosen(image: int, pair: list[_Slot], step: Step) -> int | None:
    """Return the slot that now holds the image that will run; None: none does, or half of it."""
    if not step.result.ok:
        return None
    running = step.running[image]
    same = [each.number for each in pair if each.hash is not None and each.hash == running.hash]
    done = step.result.swap_type_done[image] if image < len(step.result.swap_type_done) else SwapType.NONE
    if len(same) > 1:  # the same image twice: the one that the boot loader takes
        return pair[-1].number if done.upgrades else running.slot
    return same[0] if same else None


def _why(each: _Slot, chosen: int | None, rule: Rule, step: Step) -> str:
    if each.number == chosen:
        return _why_chosen(each, rule, step)
    if rule.resumes:
        return "the boot finishes the swap first"
    if each.survey.found.header is None:
        return "there is no image in it"
    reason = _reason(each, chosen, rule, step)
    gone = each.hash is not None and each.hash not in step.left
    return f"{reason}; the image is gone after that boot" if gone else reason


def _why_chosen(each: _Slot, rule: Rule, step: Step) -> str:
    """Say why an image runs; one may stay in slot 0 although another one was asked for."""
    if rule.name == NO_ROW:
        return "no mark asks for another image"
    done = step.result.swap_type_done[each.survey.image] if rule.asked.upgrades else rule.asked
    if rule.asked.upgrades and not done.upgrades and each.number % SLOTS_OF_IMAGE == 0:
        asked = f"the image of slot {each.number + 1} was asked for ({NAMES[rule.asked]})"
        return f"it stays: {asked} and cannot have its place"
    return rule.short


def _reason(each: _Slot, chosen: int | None, rule: Rule, step: Step) -> str:
    result = step.result
    if not each.survey.found.valid:
        return f"the image is not valid: {each.survey.found.reason}"
    if not result.ok:
        return result.stopped or "; ".join(result.actions)
    if said := list(_said(each, step)):
        return "; ".join(said)
    if not rule.marks and chosen is not None:
        return f"the image of slot {chosen} runs"
    if rule.asked.upgrades and chosen is not None and chosen > each.number:
        return f"the image of slot {chosen} takes its place"
    if rule.asked.upgrades:
        return _dependency(step).removeprefix(_prefix(each, step)) or f"it was asked for, but: {_log(each, step)}"
    return "nothing asks for it" if rule.name == NO_ROW else f"nothing asks for it: {rule.short}"


def _said(each: _Slot, step: Step) -> Iterator[str]:
    """Give what the boot loader said against the image of a slot."""
    prefix = _prefix(each, step)
    for action in step.result.actions:
        about = action.startswith(prefix) and f"slot {each.number} is " in action
        if about and "is marked" not in action:
            yield action.removeprefix(prefix)


def _log(each: _Slot, step: Step) -> str:
    """Return what the boot loader did with the image pair of a slot."""
    prefix = _prefix(each, step)
    told = (action for action in step.result.actions if action.startswith(prefix))
    plain = ("is marked", "holds a valid image", "booting version")
    return "; ".join(action.removeprefix(prefix) for action in told if not any(part in action for part in plain))


def _prefix(each: _Slot, step: Step) -> str:
    """Return what sentences about the image pair of a slot begin with."""
    return f"image {each.survey.image}: " if len(step.running) > 1 else ""
