"""The driver as a test: `ci/sglang.sh servers` comes here."""

import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).resolve().parent / "run.py"
# The driver starts nothing after 1,000 s, and its last case ends in its own time.
LIMIT_S = 1400


# The driver itself runs again what was late: that case, and not all four.
@pytest.mark.flaky(reruns=0)
def test_what_one_server_computed_the_other_takes_from_the_storage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():
        print()
        driver = subprocess.Popen([sys.executable, str(DRIVER), "--logs", str(tmp_path)])
        try:
            status = driver.wait(LIMIT_S)
        finally:
            # It takes its servers along.
            driver.terminate()
            driver.wait(60)
    assert status == 0
