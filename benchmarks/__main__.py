"""All measurements, or those named: ``python -m benchmarks [--save] [system] [memo] …``.

Each module ``bench_NAME`` has ``run()``, which measures and returns rows, and ``table(rows)``. It may have
``against(rows)``, for the comparison with others, and ``draw(rows, folder)``, which writes SVG plots.
``--save`` puts the tables into the pages that quote them, and the plots into ``docs/benchmarks``.
"""

from __future__ import annotations

import argparse
import importlib

from benchmarks._report import ROOT, Against, against_all, machine, quote

MODULES = ("system", "mapping", "shared", "memo", "stash", "async", "server", "engines", "curves")
WITH_OTHERS = ("system", "mapping", "memo")
PLOTS = ROOT / "docs" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODULES)}; by default all")
    parser.add_argument("--save", action="store_true", help="put tables and plots into the pages")
    given = parser.parse_args()
    if unknown := set(given.names) - set(MODULES):
        parser.error(f"there are no measurements of {', '.join(sorted(unknown))}")
    names = given.names or MODULES
    print(f"{machine()}; medians of rounds in turns")
    tables, short, others = {}, {}, list[Against]()
    for name in names:
        module = importlib.import_module(f"benchmarks.bench_{name}")
        rows = module.run()
        table = module.table(rows)
        tables[name], short[name] = table.markdown(), table.markdown(short=True)
        print(f"\n## {name}\n\n{tables[name]}", flush=True)
        if hasattr(module, "against"):
            others += module.against(rows)
        if given.save and hasattr(module, "draw"):
            PLOTS.mkdir(exist_ok=True)
            module.draw(rows, PLOTS)
    if set(WITH_OTHERS) <= set(names):
        tables["others"] = against_all(others).markdown()
        print(f"\n## others\n\n{tables['others']}")
    if given.save:
        for page in quote(tables, short):
            print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
