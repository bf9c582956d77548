"""A seeded part of the faults over the command line; ``tests/faulty.py`` alone makes all of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

QUICK = (
    "run,merge,score,submit all,label,prompts export,access revoke,consistency,import,access seal,access grant,"
    "access open,check,check submission,validate-scorer"
)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for what counts the write sites")
@pytest.mark.skipif(os.geteuid() != 0, reason="another user's rights can be tried as root alone")
def test_faults_lose_nothing_and_are_told_clearly() -> None:
    # Not pytest's folder, which another user may not enter: the rights that are tried are those of the files.
    with TemporaryDirectory(prefix="demur-faults-") as place:
        Path(place).chmod(0o755)
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "demur.tests.faulty",
            f"{place}/f",
            "--every",
            "16",
            "--kills",
            "1",
        ]
        done = subprocess.run([*command, "--only", QUICK], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(row["trials"] for row in found) >= 20
    assert [(row["kind"], row["losses"], row["unclear"]) for row in found if row["losses"] or row["unclear"]] == []
