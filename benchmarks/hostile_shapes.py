"""Processor seconds that 5,000,000 characters of each hostile shape take, the slowest shapes of each path first."""

from demur.tests.test_linear import LARGE, PATHS, UNITS, seconds


def main() -> None:
    """Print a line per path; the scorers' paths score a response twice, once as cut by the token limit."""
    for name, path in PATHS.items():
        taken = sorted(((seconds(path, unit, LARGE), shape) for shape, unit in UNITS.items()), reverse=True)
        print(f"{name}: " + ", ".join(f"{shape} {time:.2f} s" for time, shape in taken[:4]), flush=True)


if __name__ == "__main__":
    main()
