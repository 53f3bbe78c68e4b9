"""Public tools, where they are installed: the same requests to the same mock, each as its own documentation has it used."""

import pathlib
import subprocess

from harness import LONG_PROMPT, PROMPT, Failed, Server, median

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
# The same columns as `export` writes, by a question that whoever has the file can ask.
EXPORT_SQL = (
    "SELECT json_extract(row.cells, '$.id') AS id, json_extract(row.cells, '$.review') AS review, "
    "json_extract(row.cells, '$.product') AS product, json_extract(row.cells, '$.rating') AS rating, "
    "json_extract(row.cells, '$.date') AS date, attempt.answer AS answer, request.state AS state "
    "FROM row LEFT JOIN request ON request.row_id = row.id LEFT JOIN attempt ON attempt.id = request.attempt_id "
    "WHERE row.retired_at_ms IS NULL ORDER BY row.position"
)


def python_with(bench, module):
    """Returns a Python that has a module, and the module's version; or nothing."""
    package = {"bespokelabs.curator": "bespokelabs-curator"}.get(module, module.partition(".")[0])
    code = f"import importlib.metadata as m, {module}; print(m.version({package!r}))"
    for python in [*bench.options.python, "python3"]:
        try:
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return python, done.stdout.strip().splitlines()[-1]
    return None


def skipped(what, target, name):
    return {"what": what, "target": target, "skipped": f"{name} is not installed"}


# Script, module, name, rows, in flight, how much faster the program must be. The slow ones get few rows: their rate is flat.
REALTIME = (
    ("aiohttp_bare.py", "aiohttp", "a bare aiohttp loop that records nothing", 10_000, 256, 3),
    ("openai_async.py", "openai", "AsyncOpenAI with a semaphore", 2_000, 64, 45),
    ("cookbook.py", "tiktoken", "OpenAI cookbook's parallel script", 5_000, 100, 25),
    ("curator_calls.py", "bespokelabs.curator", "curator", 3_000, 256, 40),
)


def realtime(bench):
    rows = min(100_000, bench.options.rows)
    project = bench.project(rows)
    entries = []
    with Server(bench, threads=1) as server:

        def ours(in_flight):
            def side():
                folder = bench.copy_of(project, "tools")
                run = bench.ours(
                    folder, "run", "-q", "--yes", "--route", "realtime", "--concurrency", in_flight,
                    "--base-url", server.url,
                )  # fmt: skip
                bench.expect_answered(folder, rows)
                return rows / run.wall

            return side

        for script, module, name, theirs, in_flight, limit in REALTIME:
            what, target = f"against {name}", f"≥ {limit}×"
            found = python_with(bench, module)
            if script == "cookbook.py" and not bench.options.cookbook:
                found = None
            if not found:
                entries.append(skipped(what, target, name))
                continue
            python, version = found
            count = min(theirs, 500) if bench.options.quick else theirs
            more = [bench.options.cookbook.resolve()] if script == "cookbook.py" else []

            def peer():
                run = bench.measure(
                    python, PEERS / script, server.url, bench.table(rows), count, in_flight, bench.prompt(PROMPT), *more,
                    cwd=bench.folder("peer"),
                )  # fmt: skip
                said = run.json()
                if said["answered"] != count:
                    raise Failed(f"{said['answered']} of {count} answered")
                return said["answered"] / said["seconds"]

            try:
                mine, rates = bench.alternate(ours(min(in_flight, 256)), peer)
            except Failed as failed:
                entries.append({"what": what, "target": target, "failed": str(failed)})
                continue
            ratio = median(mine) / median(rates)
            versions = "as published" if script == "cookbook.py" else f"version {version}"
            note = f"{versions}, {count:,} rows, {in_flight} in flight"
            entries.append(
                {"what": what, "ours": median(mine), "theirs": median(rates), "unit": "rows/s", "ratio": ratio,
                 "reference": name, "target": target, "met": ratio >= limit, "note": note}
            )  # fmt: skip
    return entries


BATCH = {
    "instructor": ("instructor_batch.py", "instructor.batch"),
    "curator": ("curator_batch.py", "bespokelabs.curator"),
}


def batch_entry(bench, about, at):
    (name, limit), (server, rows, ours) = about, at
    script, module = BATCH[name]
    what, target = f"{rows:,} rows against {name}", f"≥ {limit}× faster"
    found = python_with(bench, module)
    if not found:
        return skipped(what, target, name)
    python, version = found

    def peer():
        run = bench.measure(
            python, PEERS / script, server.url, bench.table(rows), rows, bench.prompt(LONG_PROMPT),
            cwd=bench.folder("peer"),
        )  # fmt: skip
        if run.json()["answered"] != rows:
            raise Failed(f"{run.json()['answered']} of {rows} answered")
        return run.json()["seconds"]

    try:
        (seconds,) = bench.alternate(peer)
    except Failed as failed:
        return {"what": what, "target": target, "failed": str(failed)}
    ratio = median(seconds) / ours
    return {"what": what, "ours": ours, "theirs": median(seconds), "unit": "s", "ratio": ratio, "reference": name,
            "target": target, "met": ratio >= limit, "note": f"{name} {version}"}  # fmt: skip


def pandas_entry(bench, about, ours):
    what, folder = about
    found = python_with(bench, "pandas")
    if not found:
        return skipped(what, "≥ 6× faster", "pandas")
    python, version = found

    def peer():
        run = bench.measure(python, PEERS / "pandas_export.py", folder / "overnight.db", EXPORT_SQL, folder / "pandas.csv")
        return run.wall

    (seconds,) = bench.alternate(peer)
    ratio = median(seconds) / ours
    return {"what": what, "ours": ours, "theirs": median(seconds), "unit": "s", "ratio": ratio, "target": "≥ 6× faster",
            "reference": f"pandas {version}", "met": ratio >= 6}  # fmt: skip
