#!/usr/bin/env python3
"""Measures the program against references and writes docs/benchmarks.md. See README.md beside this file.

    benches/bench.py                                  everything, at full size
    benches/bench.py --only realtime,add              some of it
    benches/bench.py --quick                          a look at how it goes; writes no page
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import measures  # noqa: E402
import page  # noqa: E402
from harness import TREE, Bench, Failed, say  # noqa: E402


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="LINE,…", help=f"some lines: {', '.join(measures.LINES)}")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large tables")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side")
    parser.add_argument("--quick", action="store_true", help="small tables, two runs; the page is left alone")
    parser.add_argument("--program", type=pathlib.Path, help="the program, instead of a release build of this tree")
    parser.add_argument("--bare", type=pathlib.Path, help="the references, instead of a release build of this tree")
    parser.add_argument("--dir", type=pathlib.Path, help="where to work, instead of target/bench; the disk counts")
    parser.add_argument("--fresh", action="store_true", help="make tables and answered projects anew")
    parser.add_argument("--python", action="append", default=[], help="a Python with public tools; may be given again")
    parser.add_argument("--cookbook", type=pathlib.Path, help="OpenAI cookbook's api_request_parallel_processor.py")
    parser.add_argument("--page", action="store_true", help="only write the page again from the results there are")
    given = parser.parse_args()
    if given.quick:
        given.rows, given.runs = min(given.rows, 20_000), min(given.runs, 2)
    return given


def built():
    """Builds the program and its references in release mode; returns their paths."""
    command = ["cargo", "build", "--release", "--locked", "--bins", "--bench", "bare", "--message-format", "json"]
    done = subprocess.run(command, cwd=TREE, stdout=subprocess.PIPE, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    made = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
    return pathlib.Path(made["overnight"]), pathlib.Path(made["bare"])


def output(*command):
    try:
        done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
        return done.stdout.strip()
    except OSError:
        return ""


def machine(folder):
    def field(path, name):
        lines = pathlib.Path(path).read_text().splitlines() if os.path.exists(path) else []
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")

    memory = field("/proc/meminfo", "MemTotal").split()
    mounts = [line.split() for line in output("cat", "/proc/mounts").splitlines()]
    inside = [m for m in mounts if str(folder.resolve()).startswith(m[1])]
    mount = max(inside, key=lambda m: len(m[1]), default=["?", "?", "?"])
    return {
        "cpu": field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[0]) / 2**20) if memory else None,
        "disk": f"{mount[0]}, {mount[2]}",
        "flush_ms": flush_ms(folder),
        "system": f"{platform.system()} {platform.release()}",
    }


def flush_ms(folder):
    """Returns the median time of `fdatasync` behind 4 kB: what a commit cannot be faster than."""
    path = folder / "flush"
    taken = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(101):
            file.write(b"x" * 4096)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return round(sorted(taken)[50] * 1000, 2)


def main():
    given = options()
    results_path = (given.dir or TREE / "target/bench") / ("quick.json" if given.quick else "results.json")
    results = json.loads(results_path.read_text()) if results_path.exists() else {"lines": {}}
    wanted = given.only.split(",") if given.only else list(measures.LINES)
    unknown = [line for line in wanted if line not in measures.LINES]
    if unknown:
        sys.exit(f"no such line: {', '.join(unknown)}; there are {', '.join(measures.LINES)}")
    if not given.page:
        program, bare = (given.program, given.bare) if given.program and given.bare else built()
        bench = Bench(given, (given.program or program).resolve(), (given.bare or bare).resolve())
        results["machine"] = machine(bench.work)
        about = {
            "date": datetime.date.today().isoformat(),
            "commit": output("git", "describe", "--always", "--dirty"),
            "runs": given.runs,
        }
        for line in wanted:
            take(bench, line, (results, about))
            results_path.parent.mkdir(parents=True, exist_ok=True)
            results_path.write_text(json.dumps(results, indent=1, ensure_ascii=False))
    if given.quick:
        say(f"results are in {results_path}")
    else:
        page.write(results, TREE / "docs/benchmarks.md")
        say("wrote docs/benchmarks.md")


def take(bench, line, into):
    results, about = into
    say(f"== {line}")
    start = time.perf_counter()
    try:
        entries = measures.LINES[line](bench)
    except Failed as failed:
        entries = [{"what": line, "failed": str(failed)}]
    for entry in entries:
        say("   " + page.in_words(entry))
    load = os.getloadavg()[0]
    took = round(time.perf_counter() - start)
    results["lines"][line] = {**about, "took_s": took, "load_after": round(load, 1), "entries": entries}


if __name__ == "__main__":
    main()
