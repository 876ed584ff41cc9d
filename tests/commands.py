"""Commands of the package, each in a process of its own that begins with the package imported."""

import ctypes
import itertools
import multiprocessing
import os
import pkgutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from relation_neurons.cli.main import COMMANDS

MODULES = sorted({f"relation_neurons.cli.{command.place.partition(':')[0]}" for command in COMMANDS.values()})
"""With all that they import, which takes seconds, before the processes are forked."""
PATIENCE = 600
"""Seconds after which a command is taken to hang."""
CAPABILITIES = 0x20080522
"""The version of Linux's interface to the rights of a process."""
PASSES_OVER_PERMISSIONS = 0b110
"""The rights CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it printed, in one line."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass(frozen=True)
class Command:
    """A command at work; its output goes into a folder."""

    process: multiprocessing.Process
    folder: Path

    def wait_for(self, happened) -> None:
        """Wait until something is so while the command works."""
        limit = time.monotonic() + PATIENCE
        while self.process.is_alive() and not happened():
            assert time.monotonic() < limit
            time.sleep(0.001)

    def end(self) -> Ended:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        out, err = ((self.folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        return Ended(self.process.exitcode, out, err)


def start(arguments, folder, *before) -> Command:
    """Begin a command.

    Args:
        arguments: What would follow `relation-neurons`.
        folder: For what it prints.
        before: Called first in its process; they can be pickled.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stdout", "stderr"):
        (folder / name).touch()
    process = context.Process(target=_carry_out, args=([str(one) for one in arguments], folder, before), daemon=True)
    process.start()
    return Command(process, folder)


def _carry_out(arguments, folder, before) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells take from what they start in the background
    import torch

    from relation_neurons.cli import main

    torch.set_num_threads(1)
    sys.argv = ["relation-neurons", *arguments]
    for prepare in before:
        prepare()
    main.main()


def signal_at(target: str, number: int, sent: int = signal.SIGINT) -> None:
    """Let this process get a signal as it calls a function for the nth time."""
    owner, name = target.rsplit(".", 1)
    holder, calls = pkgutil.resolve_name(owner), itertools.count(1)
    original = getattr(holder, name)

    def call(*args, **kwargs):
        if next(calls) == number:
            os.kill(os.getpid(), sent)
        return original(*args, **kwargs)

    setattr(holder, name, call)


def set_value(target: str, value: object) -> None:
    """Give a name of a module another value."""
    owner, name = target.rsplit(".", 1)
    setattr(pkgutil.resolve_name(owner), name, value)


def set_environment(**variables: object) -> None:
    os.environ.update({name: str(value) for name, value in variables.items()})


def obey_permissions() -> None:
    """Let permissions bind this process though it be root's: without two of its rights root is a user like others.

    Raises:
        OSError: They cannot be given up here.
    """
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = (ctypes.c_uint32 * 2)(CAPABILITIES), (ctypes.c_uint32 * 6)()
    if not hasattr(libc, "capset") or libc.capget(header, rights):
        raise OSError("rights cannot be given up here")
    for place in range(3):  # effective, permitted and inheritable ones; further ones come behind
        rights[place] &= ~PASSES_OVER_PERMISSIONS
    if libc.capset(header, rights):
        raise OSError(ctypes.get_errno(), "rights cannot be given up here")
