import json
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.settings import Settings, covers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


@pytest.mark.parametrize(
    ("subtree", "name", "inside"),
    [("a", "a", True), ("a", "a/b", True), ("a/b", "a/b/c", True), ("a", "ab", False), ("a/b", "a", False)],
)
def test_a_subtree_is_its_root_and_what_is_below(subtree: str, name: str, inside: bool) -> None:
    assert covers(subtree, name) is inside


def test_what_was_saved_is_there_again(path: Path) -> None:
    settings = Settings(path)
    settings.set("app/a", b"\x00\xff")
    settings.set("app/\udcff", b"")
    assert not path.exists()
    settings.save()
    again = Settings(path)
    assert (again.get("app/a"), again.get("app/\udcff"), len(again)) == (b"\x00\xff", b"", 2)


def test_a_subtree_is_saved_alone(path: Path) -> None:
    settings = Settings(path)
    settings.set("app/a", b"1")
    settings.set("bt/a", b"2")
    settings.save("bt")
    settings.reset()
    assert (settings.get("app/a"), settings.get("bt/a")) == (None, b"2")


def test_saving_the_same_writes_nothing(path: Path) -> None:
    settings = Settings(path)
    settings.set("a/b", b"1")
    settings.save()
    before = path.stat().st_ino
    settings.save()
    assert path.stat().st_ino == before


def test_load_brings_back_what_is_stored_and_keeps_the_rest(path: Path) -> None:
    settings = Settings(path)
    settings.set("a/stored", b"1")
    settings.save()
    settings.set("a/stored", b"2")
    settings.set("a/new", b"3")
    settings.load()
    assert (settings.get("a/stored"), settings.get("a/new")) == (b"1", b"3")


def test_delete_forgets_in_use_and_in_storage(path: Path) -> None:
    settings = Settings(path)
    settings.set("a/b", b"1")
    settings.save()
    assert settings.delete("a/b")
    assert not settings.delete("a/b")
    assert settings.get("a/b") is None
    settings.set("a/c", b"1")
    assert settings.delete("a/c")
    assert len(Settings(path)) == 0


def test_erase_leaves_what_is_in_use(path: Path) -> None:
    settings = Settings(path)
    settings.erase()
    assert not path.exists()
    settings.set("a/b", b"1")
    settings.save()
    settings.erase()
    assert settings.get("a/b") == b"1"
    settings.reset()
    assert settings.get("a/b") is None


def test_without_storage_a_reset_forgets_everything() -> None:
    settings = Settings()
    settings.set("a/b", b"1")
    settings.save()
    settings.erase()
    assert settings.delete("a/b")
    settings.set("a/b", b"1")
    settings.reset()
    assert (settings.stored, len(settings)) == (False, 0)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format":1}', '{"format":1,"values":{"a":1}}', "[" * 100_000])
def test_a_damaged_storage_is_told(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StoreError, match="damaged; remove it to begin with empty settings"):
        Settings(path)


def test_a_storage_of_the_future_is_told(path: Path) -> None:
    path.write_text(json.dumps({"format": 2, "values": {}}))
    with pytest.raises(StoreError, match="format 2, this program knows 1"):
        Settings(path)


def test_a_storage_that_cannot_be_written_changes_nothing(path: Path) -> None:
    settings = Settings(path)
    settings.set("a/b", b"1")
    settings.save()
    path.with_name("settings.json.new").mkdir()
    with pytest.raises(StoreError, match="Is a directory"):
        settings.delete("a/b")
    assert settings.get("a/b") == b"1"
    assert Settings(path).get("a/b") == b"1"


names = st.sampled_from(["a/b", "a/c", "b/c", "b"])


class SettingsMachine(RuleBasedStateMachine):
    """Whatever is done, values in use and in storage are those of two dictionaries."""

    @initialize()
    def start(self) -> None:
        self.settings = Settings()
        self.used: dict[str, bytes] = {}

    @rule(name=names, value=st.binary(max_size=4))
    def set(self, name: str, value: bytes) -> None:
        self.settings.set(name, value)
        self.used[name] = value

    @rule(name=names)
    def delete(self, name: str) -> None:
        assert self.settings.delete(name) is (name in self.used)
        self.used.pop(name, None)

    @rule()
    def reset(self) -> None:
        self.settings.reset()
        self.used.clear()

    @rule()
    def load_and_save(self) -> None:
        self.settings.save()
        self.settings.load()

    @invariant()
    def same(self) -> None:
        assert {name: self.settings.get(name) for name in self.used} == self.used
        assert len(self.settings) == len(self.used)


TestSettingsMachine = SettingsMachine.TestCase
