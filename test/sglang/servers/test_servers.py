"""The driver as a test: `ci/sglang.sh servers` comes here."""

import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).resolve().parent / "run.py"
# The driver ends everything by itself within fourteen minutes.
LIMIT_S = 880


# The driver itself runs again what was late: that case, and not all four.
@pytest.mark.flaky(reruns=0)
def test_what_one_server_computed_the_other_takes_from_the_storage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():
        print()
        done = subprocess.run(
            [sys.executable, str(DRIVER), "--logs", str(tmp_path)], timeout=LIMIT_S, check=False
        )
    assert done.returncode == 0
