"""The verdicts of the real boot loader on the whole corpus, and how the comparison itself behaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.images import Keys, compare, main, options_of
from tests.conformance.mcuboot import VECTORS

CORPUS = VECTORS / "images"


def manifest(folder: Path, name: str, verdicts: dict[str, Any], **fields: str) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"images": [{"name": name, "bootutil": verdicts, **fields}]}), encoding="utf-8")
    return path


def verdict(*, rc: int = 0, valid: bool = True, stopped: str | None = None) -> dict[str, Any]:
    return {"load_header_rc": rc, "valid": valid, "stopped": stopped}


def test_corpus_gets_the_verdict_of_the_real_boot_loader() -> None:
    """Verdicts of mcuboot 2d4bacc3c15e, every image, build and slot."""
    report = compare([CORPUS / "manifest.json"])
    assert report.failures == []
    assert (report.passed, report.skipped) == (810, 0)


def test_last_line_counts_and_exit_status_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = manifest(tmp_path, "signed-ecdsa-p256.bin", {"move_a8_i1_s16/slot0": verdict(valid=False)})
    assert main([str(wrong)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "signed-ecdsa-p256.bin move_a8_i1_s16/slot0: valid is True, recorded False",
        "0 passed, 1 failed, 0 skipped",
    ]
    assert main([]) == 2


def test_image_beside_the_manifest_with_the_recorded_hash_is_taken(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(CORPUS / "images" / "bad-sig.bin", tmp_path / "signed-ecdsa-p256.bin")
    known = json.loads((CORPUS / "manifest.json").read_text(encoding="utf-8"))["images"]
    sha = {entry["name"]: entry.get("sha256") for entry in known}
    name, build = "signed-ecdsa-p256.bin", "move_a8_i1_s16/slot1"
    assert compare([manifest(tmp_path, name, {build: verdict(valid=False)})]).passed == 1
    assert compare([manifest(tmp_path, name, {build: verdict()}, sha256=sha[name])]).passed == 1


def test_crash_of_the_real_boot_loader_must_be_a_refusal_of_ours(tmp_path: Path) -> None:
    crashed = {"move_a8_i1_s16/slot0": verdict(valid=False, stopped="assert")}
    assert compare([manifest(tmp_path, "bad-sig.bin", crashed)]).passed == 1
    assert compare([manifest(tmp_path, "signed-ecdsa-p256.bin", crashed)]).failed == 1


def test_unknown_builds_and_missing_images_are_skipped(tmp_path: Path) -> None:
    places = ("fancy_a8_i1_s16/slot0", "move-fancy_a8_i1_s16/slot0", "what/slot0", "move_a8_i1_s16/slot2")
    report = compare([manifest(tmp_path, "bad-sig.bin", {place: verdict() for place in places})])
    assert report.skipped == 4
    assert "1 skipped: what/slot0 is not known" in report.lines()
    assert compare([manifest(tmp_path, "gone.bin", {"move_a8_i1_s16/slot0": verdict()})]).skipped == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "holds nothing to compare"),
        ("{}", "no manifest, or cannot be read: KeyError('images')"),
        ("pictures", "no manifest, or cannot be read: JSONDecodeError"),
    ],
)
def test_what_is_no_manifest_fails(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(text, encoding="utf-8")
    report = compare([file])
    assert report.failed == 1
    assert told in report.failures[0]


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("signed-rsa-2048.bin", "rsa2048_a8_i1_s16"),
        ("signed-ed25519-sha512.bin", "ed25519-sha512_a8_i1_s16"),
        ("signed-ed25519-pure.bin", "ed25519-pure_a8_i1_s16"),
        ("signed-ecdsa-p256.bin", "ramload_a8_i1_s16"),
        ("enc-x25519-aes128.bin", "ed25519-encx25519_a8_i1_s16"),
        ("enc-kw-aes128.bin", "hashonly-enckw_a8_i1_s16"),
    ],
)
def test_builds_that_nobody_recorded_accept_what_was_made_for_them(tmp_path: Path, name: str, build: str) -> None:
    assert options_of(build, Keys(CORPUS / "testkeys.json")) is not None
    slot = 1 if "-enc" in build else 0
    report = compare([manifest(tmp_path, name, {f"{build}/slot{slot}": verdict()})])
    assert report.failures == []
