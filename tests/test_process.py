import subprocess
import sys

from lraee.process import peak_mib

CHILD = "from lraee.process import peak_mib; print(peak_mib())"


def test_the_peak_is_that_of_all_pages_touched() -> None:
    before = peak_mib()
    held = bytearray(b"x") * (64 * 2**20)
    assert peak_mib() >= len(held) / 2**20
    del held
    assert peak_mib() >= before


def test_the_peak_is_the_processs_own_and_not_that_of_its_parent() -> None:
    held = bytearray(b"x") * (256 * 2**20)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < len(held) / 2**20
