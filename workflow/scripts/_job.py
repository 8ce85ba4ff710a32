"""What every script shares: its output goes to the rule's log, and an expected error ends it with one sentence."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any


@contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Send stdout and stderr to the rule's log; show the message of an error on the console as well."""
    with Path(snakemake.log[0]).open("w", encoding="utf-8", buffering=1) as log:
        try:
            with redirect_stdout(log), redirect_stderr(log):
                yield
        except Exception as error:
            print(f"{snakemake.rule}: {error}\n(details: {snakemake.log[0]})", file=sys.stderr)
            with suppress(OSError):  # on a full disk the log cannot be written either
                traceback.print_exc(file=log)
            sys.exit(1)


def use_threads(snakemake: Any) -> None:
    """Give torch the rule's threads: Snakemake sets the environment's counts to 1."""
    import torch

    torch.set_num_threads(snakemake.threads)
