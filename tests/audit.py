"""Known vulnerabilities of the pinned versions: ``make audit``. Says so where it could not look; then it is no pass.

``python tests/audit.py PIP_AUDIT...``, the arguments being how pip-audit is started. It asks PyPI's
advisory service over the network. Exit codes: 0 nothing known, 1 something found, 2 it could not run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CLEAN = "No known vulnerabilities found"
ROOT = Path(__file__).resolve().parent.parent


def main(program: list[str]) -> int:
    """Ask about every line of constraints.txt."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        # Strict: a package that cannot be looked up is a fault and not left out.
        options = ["--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip", "--strict"]
        options += ["--progress-spinner", "off", "--format", "json", "--output", str(out)]
        done = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
        try:
            # It writes the file where it found something.
            packages = json.loads(out.read_text(encoding="utf-8"))["dependencies"]
        except (OSError, ValueError, LookupError, TypeError):
            packages = []
    found = [(each, one) for each in packages for one in each.get("vulns", ())]
    for package, one in found:
        mended = ", ".join(one["fix_versions"]) or "no version"
        print(f"audit: {package['name']} {package['version']}: {one['id']}, mended in {mended}")
    if found:
        return 1
    if done.returncode or CLEAN not in done.stderr:
        cause = done.stderr.strip().rsplit("\n", 1)[-1].removeprefix("ERROR:pip_audit._cli:")[-500:]
        print(f"audit: could not run, and this is no pass; it needs the network (pypi.org): {cause}", file=sys.stderr)
        return 2
    print("audit: no known vulnerability in the versions of constraints.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
