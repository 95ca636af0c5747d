"""Updates through SMP in every mode, against a model in words: update_model.py, update_modes.py, update_device.py.

Upload, test, confirm, erase, reset and power cuts, in any order (update_machine.py): one image in all modes, with
builds of the boot loader that want signatures, encryption, versions or counters that do not fall, or fill an empty
slot 0; two and three images that want versions of each other.

In swap-using-scratch and swap-using-move a bootable image always remains, and a confirmed one is kept until another is
confirmed. In the other modes what is listed and what runs is what the model says. Where modes have ways of their own,
each has a test with a name:

    test_update_exceptions  what only clients can bring about, or see
    tests/mcuboot           traps of the boot loader that clients cannot bring about: marks and slots of every kind
    tests/store/test_modes  what the modes do with marks, versions and an upload
    tests/store/test_cuts   the torn last write of a test
"""

from functools import partial
from typing import cast

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from smp_dfu_host.config import MODES, UPDATE_MODES
from tests.groups.update_machine import KEEPING, UpdateMachine

SEVERAL = [*((mode, 2) for mode in (*UPDATE_MODES, "direct-xip")), ("swap-using-move", 3)]
"""Modes that are tried with so many images."""
STEPS = 25


def run(mode: str, images: int, examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call,unused-ignore]
        cast("type[RuleBasedStateMachine]", partial(UpdateMachine, mode, images)),
        settings=settings(max_examples=examples, stateful_step_count=STEPS),
    )


@pytest.mark.parametrize("mode", MODES)
def test_updates_in_any_order_are_as_the_model_says(mode: str) -> None:
    """The more there is to keep, the more is tried; much more by the slow test."""
    run(mode, 1, 10 if mode in KEEPING else 6)


@pytest.mark.parametrize(("mode", "images"), SEVERAL)
def test_updates_of_several_images_are_as_the_model_says(mode: str, images: int) -> None:
    run(mode, images, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "images"), [*((mode, 1) for mode in MODES), *SEVERAL])
def test_many_updates_are_as_the_model_says(mode: str, images: int) -> None:
    run(mode, images, 60)
