"""One target under atheris: `python -m tests.fuzz.engine TARGET FOLDER LIBFUZZER-OPTION...`.

atheris and the libFuzzer in it end the process by themselves: 0 if the time is up, anything else for a finding, whose
bytes they leave in FOLDER.
"""

import gc
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

from tests.fuzz.guard import Guard
from tests.fuzz.watched import WATCHED


def main(name: str, folder: Path, *options: str) -> None:
    """Fuzz until libFuzzer ends the process."""
    with atheris.instrument_imports(include=list(WATCHED[name])):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    logging.basicConfig(level=logging.ERROR)
    seeds = folder / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number:05}").write_bytes(seed)
    with TemporaryDirectory() as scratch, target.make(Path(scratch) / name) as check:
        arguments = [sys.argv[0], *options, f"-max_len={target.size}", f"-artifact_prefix={folder}/", str(corpus)]
        atheris.Setup([*arguments, str(seeds)], Guard(check))
        gc.freeze()  # what is there now stays, and need not be looked at again and again
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
