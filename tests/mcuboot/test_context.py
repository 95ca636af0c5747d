from smp_dfu_host.mcuboot.context import BootContext, BootStatus, Phase
from smp_dfu_host.mcuboot.options import BootOptions
from tests.mcuboot.images import make_area, make_pair


def test_status_is_fresh_until_a_step_was_done() -> None:
    assert BootStatus().fresh
    assert not BootStatus(index=2).fresh
    assert not BootStatus(state=2).fresh
    assert not BootStatus(phase=Phase.SWAP).fresh


def test_status_steps_are_as_wide_as_the_coarser_of_slot_and_scratch() -> None:
    pair = make_pair()
    alone = BootContext(BootOptions(), [pair], None, [0])
    with_scratch = BootContext(BootOptions(), [pair], make_area("scratch", (4096,), align=16), [0])
    assert [context.write_size(context.images[0]) for context in (alone, with_scratch)] == [8, 16]


def test_actions_name_the_image_only_if_there_are_several() -> None:
    one = BootContext(BootOptions(), [make_pair()], None, [0])
    two = BootContext(BootOptions(), [make_pair(), make_pair()], None, [0, 0])
    for context in (one, two):
        context.say(context.images[-1], "hello")
    assert (one.actions, two.actions) == (["hello"], ["image 1: hello"])
