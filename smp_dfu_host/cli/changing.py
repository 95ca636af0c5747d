"""What the commands share that change the slots: the DFU lock, and a word on what the next boot will do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
from smp_dfu_host.store.slots import SlotStore


class SlotNumber(click.IntRange):
    """The number of a slot, counted through all images; named so that an error says what was wanted."""

    name = "slot number"

    def __init__(self) -> None:
        super().__init__(min=0)


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


def say_next(store: SlotStore) -> None:
    """Say what the next boot will do."""
    click.echo(f"next boot: {'; '.join(store.preview_boot().actions)}")


def check_slot(store: SlotStore, slot: int, name: str = "SLOT") -> None:
    """Refuse the number of a slot that does not exist; `name` is that of the argument or option.

    Raises:
        BadParameter: Naming those that do.
    """
    if slot not in store.layout.slots:
        raise click.BadParameter(f"{slot}: there are slots 0 to {store.layout.slots[-1]}", param_hint=name)
