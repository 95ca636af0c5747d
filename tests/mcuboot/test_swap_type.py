from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.swap_type import OFFSET_TABLE, Flag, Magic, SwapType, TrailerState, decide

flags, magics = st.sampled_from(Flag), st.sampled_from(Magic)
states = st.builds(TrailerState, magics, st.just(SwapType.NONE), st.just(0), flags, flags)


def state(magic: Magic = Magic.UNSET, copy_done: Flag = Flag.UNSET, image_ok: Flag = Flag.UNSET) -> TrailerState:
    return TrailerState(magic, copy_done=copy_done, image_ok=image_ok)


def test_empty_trailers_ask_for_nothing() -> None:
    assert decide(state(), state()) is SwapType.NONE


@given(states)
def test_mark_in_slot_1_wins_over_whatever_slot_0_says(primary: TrailerState) -> None:
    """A good magic in slot 1 is a test; with image_ok it is for good; a bad image_ok makes it none of both."""
    assert decide(primary, state(Magic.GOOD)) is SwapType.TEST
    assert decide(primary, state(Magic.GOOD, image_ok=Flag.SET)) is SwapType.PERM
    assert decide(primary, state(Magic.GOOD, image_ok=Flag.BAD)) in (SwapType.NONE, SwapType.REVERT)


@given(states, states)
def test_revert_is_for_a_swap_that_was_done_and_not_confirmed(primary: TrailerState, secondary: TrailerState) -> None:
    """Without a mark in slot 1, only good / set / unset reverts."""
    if secondary.magic is not Magic.GOOD:
        unconfirmed = primary.magic is Magic.GOOD and primary.copy_done is Flag.SET and primary.image_ok is Flag.UNSET
        assert decide(primary, secondary) is (SwapType.REVERT if unconfirmed else SwapType.NONE)


def test_offset_mode_sees_a_revert_in_slot_1_first() -> None:
    begun = state(Magic.GOOD, copy_done=Flag.SET)
    assert decide(state(), begun, OFFSET_TABLE) is SwapType.REVERT
    assert decide(state(), begun) is SwapType.TEST


def test_upgrades_are_those_that_run_the_other_image() -> None:
    assert [kind for kind in SwapType if kind.upgrades] == [SwapType.TEST, SwapType.PERM, SwapType.REVERT]
