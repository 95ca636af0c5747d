from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from smp_dfu_host.errors import ConfigError, StoreError
from tests.store.builders import SLOT, config, image, slot_bytes, store


def public_key(folder: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    name = f"{type(key).__name__}.pem"
    (folder / name).write_bytes(pem)
    return name


def test_the_first_start_makes_slots_with_an_image_of_version_0(tmp_path: Path) -> None:
    views = store(tmp_path).slots()
    assert [(view.slot, str(view.version), view.size) for view in views] == [(0, "0.0.0", SLOT)]
    assert slot_bytes(tmp_path, 1) == b"\xff" * SLOT


def test_the_next_start_changes_nothing(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "store" / "slot1.bin").write_bytes(b"\x5a" * SLOT)
    store(tmp_path, image={"factory": "gone.bin"})
    assert slot_bytes(tmp_path, 1) == b"\x5a" * SLOT


def test_slot_0_gets_the_factory_image(tmp_path: Path) -> None:
    data = image((1, 2, 3))
    (tmp_path / "factory.bin").write_bytes(data)
    assert [str(view.version) for view in store(tmp_path, image={"factory": "factory.bin"}).slots()] == ["1.2.3"]
    assert slot_bytes(tmp_path, 0) == data.ljust(SLOT, b"\xff")


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (None, "No such file"),
        (bytes(SLOT + 1), f"{SLOT + 1} bytes, a slot has {SLOT}"),
        (b"not an image", "does not boot"),
        (image()[:-1] + b"\0", "does not boot"),
    ],
    ids=["missing", "too large", "no image", "wrong hash"],
)
def test_a_factory_image_that_cannot_be_used_is_named(tmp_path: Path, contents: bytes | None, reason: str) -> None:
    if contents is not None:
        (tmp_path / "factory.bin").write_bytes(contents)
    with pytest.raises(ConfigError, match=rf"image\.factory = .*factory\.bin: {reason}"):
        store(tmp_path, image={"factory": "factory.bin"})
    assert not list((tmp_path / "store").glob("slot*"))


def test_keys_without_a_factory_image_name_both_options(tmp_path: Path) -> None:
    name = public_key(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match=r"image\.factory is missing: with bootloader\.keys"):
        store(tmp_path, bootloader={"keys": [name]})


def test_keys_take_only_an_image_signed_by_one_of_them(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sections = {"bootloader": {"keys": [public_key(tmp_path, key)]}, "image": {"factory": "factory.bin"}}
    (tmp_path / "factory.bin").write_bytes(image())
    with pytest.raises(ConfigError, match="does not boot"):
        store(tmp_path, **sections)
    (tmp_path / "factory.bin").write_bytes(image(key=key))
    assert len(store(tmp_path, **sections).slots()) == 1


def test_keys_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bootloader\.keys\[0\] = .*gone\.pem: No such file"):
        store(tmp_path, bootloader={"keys": ["gone.pem"]})
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"bootloader\.keys\[0\] = .*text\.pem: not a public key"):
        store(tmp_path, bootloader={"keys": ["text.pem"]})
    names = [
        public_key(tmp_path, key)
        for key in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())
    ]
    with pytest.raises(ConfigError, match=r"bootloader\.keys: keys of ECDSA-P256, Ed25519"):
        store(tmp_path, bootloader={"keys": names})


def test_a_store_with_half_of_its_slots_names_the_missing_one(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "store" / "slot1.bin").unlink()
    with pytest.raises(StoreError, match=rf"slot1\.bin: No such file or directory; wanted is a slot of {SLOT} bytes"):
        store(tmp_path)


def test_a_slot_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "store" / "slot1.bin").write_bytes(b"x" * 100)
    with pytest.raises(StoreError, match=rf"slot1\.bin: 100 bytes, \[flash\] makes a slot of {SLOT}"):
        store(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=r"store: File exists"):
        store(tmp_path)


def test_a_creation_cut_behind_its_commit_point_is_finished(tmp_path: Path) -> None:
    folder = config(tmp_path).store
    store(tmp_path)
    for slot in (0, 1):
        (folder / f"slot{slot}.bin").rename(folder / f"slot{slot}.bin.5f3a.staged")
    (folder / "commit").write_text('{"slot0.bin.5f3a.staged": "slot0.bin", "slot1.bin.5f3a.staged": "slot1.bin"}')
    assert len(store(tmp_path).slots()) == 1


def test_every_image_needs_a_factory_image_where_there_are_keys(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "factory.bin").write_bytes(image((1, 0, 0), key=key))
    (tmp_path / "other.bin").write_bytes(image((1, 0, 0), b"other", key=key))
    build = {"keys": [public_key(tmp_path, key)], "images": 2}
    with pytest.raises(ConfigError, match=r"image\.more_factories\[0\] is missing: with bootloader\.keys"):
        store(tmp_path, bootloader=build, image={"factory": "factory.bin"})
    factories = {"factory": "factory.bin", "more_factories": ["other.bin"]}
    assert [view.slot for view in store(tmp_path, bootloader=build, image=factories).slots()] == [0, 2]


def test_a_missing_slot_beside_another_image_is_not_made_up(tmp_path: Path) -> None:
    store(tmp_path, bootloader={"images": 2})
    (tmp_path / "store" / "slot3.bin").unlink()
    with pytest.raises(StoreError, match=r"slot3\.bin: No such file"):
        store(tmp_path, bootloader={"images": 2})


def test_a_factory_image_keeps_the_marks_that_it_came_with(tmp_path: Path) -> None:
    store(tmp_path, bootloader={"mode": "direct-xip-with-revert"})
    marked = slot_bytes(tmp_path, 0)
    assert marked[-16:] != b"\xff" * 16
    (tmp_path / "factory.bin").write_bytes(marked)
    other = tmp_path / "other"
    sections = {"bootloader": {"mode": "direct-xip-with-revert"}, "image": {"factory": str(tmp_path / "factory.bin")}}
    store(other, **sections)
    assert slot_bytes(other, 0) == marked
