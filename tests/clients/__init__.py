"""Clients that we did not write, each a process of its own, against servers that are processes of their own.

`run` starts a driver of this folder (or a command line) and returns what it printed; a driver makes one client do
everything that it can and prints a line for each command that went as it should.
"""

import subprocess
import sys

LIMIT_S = 120.0
"""What a driver may take, even on a busy machine; in seconds."""


def run(*command: str) -> str:
    """Run a module with arguments by this interpreter; return what it printed.

    Raises:
        AssertionError: If it failed; the message has all of its output.
    """
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
