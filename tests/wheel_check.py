"""Build the wheel, install it in an environment elsewhere, and use it there: nothing may lean on the checkout."""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

USE = """
import sys
import demur
heavy = {{"torch", "transformers", "datasets", "pandas", "pyarrow", "scipy"}} & set(sys.modules)
assert not heavy, f"import demur loads {{heavy}}"
assert {outside!r} not in demur.__file__, demur.__file__
prompts = demur.load_prompts("public")
assert prompts.num_rows == 640, prompts
"""


def main() -> None:
    """Build, install, use; the exit code tells."""
    with tempfile.TemporaryDirectory(prefix="demur-wheel-") as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = folder.glob("*.whl")
        # The dependencies are those of this environment; only demur itself is installed anew.
        venv.create(folder / "env", with_pip=False)
        python = folder / "env" / "bin" / "python"
        site = next((folder / "env" / "lib").glob("python*/site-packages"))
        ours = next(p for p in map(Path, sys.path) if p.name == "site-packages")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], check=True
        )
        environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ours}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("DEMUR_IDENTITY", None)

        def use(*command: str) -> None:
            print("$", *command[-4:], flush=True)
            subprocess.run([str(python), *command], check=True, cwd=folder, env=environment)

        use("-c", USE.format(outside=str(ROOT)))
        use("-m", "demur", "--help")
        use("-m", "demur", "prompts", "stats")
        print(f"wheel: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, works when installed elsewhere")


if __name__ == "__main__":
    main()
