"""Datasets as people have them, each with what its owner expects of the commands, and what comes of it.

    python benchmarks/odd_datasets.py [--only WORD]

Makes every dataset of tests/unit/odd_data.py in a temporary folder and runs the real commands on it. Prints a
Markdown table; exits with 1 if an expectation is not met.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import traceback
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Try every dataset and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    only = parser.parse_args().only
    sys.path[:0] = [str(ROOT / "tests" / "unit"), str(ROOT)]
    from odd_data import CASES

    chosen = [case for case in CASES if only.casefold() in case.name.casefold()]
    if not chosen:
        parser.error(f"no dataset has '{only}' in its name")
    failed = 0
    print("| dataset | what its owner expects | result | pass |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        top = Path(name).resolve()
        os.environ["MANASIGHT_HOME"] = str(top / "home")
        for number, case in enumerate(chosen):
            folder = top / str(number)
            folder.mkdir()
            try:
                with contextlib.chdir(folder):
                    result, passed = case.attempt(folder), "yes"
            except Exception as error:
                traceback.print_exc()
                result, passed = f"{type(error).__name__}: {error}", "no"
                failed += 1
            cells = (" ".join(cell.split()).replace("|", "\\|") for cell in (case.name, case.expects, result, passed))
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{len(chosen) - failed} of {len(chosen)} pass")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
