"""Why an image will or will not boot next: the explanation as lines, and as JSON."""

from collections.abc import Iterator

from smp_dfu_host.cli.boot_result import boot_json
from smp_dfu_host.cli.render import Fact
from smp_dfu_host.config import Config
from smp_dfu_host.store.explain import Explanation, ImageExplanation, Outcome, SlotVerdict, Step
from smp_dfu_host.store.rules import NAMES


def verdict(each: SlotVerdict) -> Fact:
    """Say whether what is in a slot runs after the next boot, and why."""
    if each.boots:
        return Fact("next", f"boots: {each.why}", "green")
    return Fact("next", f"does not boot: {each.why}")


def explanation(found: Explanation, config: Config) -> Iterator[Fact]:
    """Say which rule decides, and what a reset, a test, a confirm would do."""
    several = len(found.images) > 1
    for each in found.images:
        yield Fact(f"rule, image {each.image}" if several else "rule", each.rule.text, "cyan")
    for number, action in enumerate(found.next_boot.actions):
        yield Fact("" if number else "next boot", action, "" if found.next_boot.ok else "bold red")
    for outcome in found.outcomes:
        for image in [each.image for each in found.images] if outcome.slot is None else [outcome.image]:
            which = f", image {image}" if several and outcome.slot is None else ""
            yield Fact(f"{name(outcome)}{which}", outcome.say(image), "yellow" if outcome.refused else "")
    if _confirms(config) and any("unless somebody confirms" in each.text for each in found.outcomes):
        yield Fact("note", "a server confirms what runs when it starts: [dfu] confirm_at_start")


def _confirms(config: Config) -> bool:
    return config.smp.module == "dfu" and config.dfu.enabled and config.dfu.confirm_at_start


def name(outcome: Outcome) -> str:
    """Name what was tried."""
    return outcome.what if outcome.slot is None else f"{outcome.what} {outcome.slot}"


def verdicts(found: Explanation) -> Iterator[Fact]:
    """Say of each slot whether what is in it boots next."""
    for image in found.images:
        for each in image.verdicts:
            said = verdict(each)
            yield Fact(f"slot {each.slot}", said.text, said.style)


def explanation_json(found: Explanation) -> dict[str, object]:
    """Return the explanation, for JSON."""
    return {
        "next_boot": boot_json(found.next_boot),
        "images": [_image_json(each) for each in found.images],
        "outcomes": [_outcome_json(each) for each in found.outcomes],
    }


def _image_json(each: ImageExplanation) -> dict[str, object]:
    return {
        "image": each.image,
        "rule": {"name": each.rule.name, "condition": each.rule.condition, "follows": each.rule.follows},
        "asked": NAMES[each.rule.asked],
        "resumes": each.rule.resumes,
        "slots": [{"slot": one.slot, "boots": one.boots, "why": one.why} for one in each.verdicts],
    }


def _outcome_json(each: Outcome) -> dict[str, object]:
    return {
        "what": each.what,
        "slot": each.slot,
        "refused": each.refused or None,
        "text": each.text,
        "boots": [_step_json(step) for step in each.steps],
    }


def _step_json(step: Step) -> dict[str, object]:
    running = [
        {"slot": each.slot, "version": each.version or None, "hash": each.hash.hex() or None} for each in step.running
    ]
    return {**boot_json(step.result), "running": running}
