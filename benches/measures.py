"""Every line of the table that the program is held against, a function each. Each returns a list of entries for the page."""

import contextlib
import filecmp
import os
import shutil
import sqlite3
import sys
import time

import tools
from harness import LONG_PROMPT, PROMPT, SHORT_PROMPT, Failed, Server, median

RUN = ("run", "-q", "--yes", "--route")


def entry(what, ours, theirs, **more):
    """Makes an entry; with a `bound`, the ratio must be at most (`<=`) or at least (`>=`) that."""
    ratio = ours / theirs if ours is not None and theirs else None
    made = {"what": what, "ours": ours, "theirs": theirs, "ratio": ratio, **more}
    if "bound" in more:
        kind, limit = more["bound"]
        made["met"] = None if ratio is None else (ratio <= limit if kind == "<=" else ratio >= limit)
    return made


def walls(runs):
    return median([run.wall for run in runs])


def spread(runs):
    values = sorted(run.wall for run in runs)
    return f"{values[0]:.2f}–{values[-1]:.2f} s"


def timed(what, ours, theirs, reference, limit):
    return entry(
        what, walls(ours), walls(theirs), unit="s", reference=reference, target=f"≤ {limit}×", bound=("<=", limit),
        note=f"{spread(ours)}; reference {spread(theirs)}",
    )  # fmt: skip


def realtime(bench):
    rows = min(100_000, bench.options.rows)
    table, project = bench.table(rows), bench.project(rows)
    prompt = bench.prompt(PROMPT)
    entries, cpu = [], []
    for in_flight in (64, 256):
        with Server(bench, threads=1) as server:

            def ours():
                folder = bench.copy_of(project, "realtime")
                run = bench.ours(folder, *RUN, "realtime", "--concurrency", in_flight, "--base-url", server.url)
                bench.expect_answered(folder, rows)
                return run

            def theirs():
                folder = bench.folder("bare")
                return bench.reference(
                    "realtime", table, folder / "bare.db", server.url, in_flight, "--prompt", prompt
                )

            mine, bare = bench.alternate(ours, theirs)
        entries.append(
            entry(
                f"{rows:,} rows, {in_flight} in flight", rows / walls(mine), rows / walls(bare), unit="rows/s",
                reference="bare loop", target="≥ 0.8×", bound=(">=", 0.8),
                note=f"{spread(mine)}; reference {spread(bare)}",
            )
        )  # fmt: skip
        per_row = [median([run.cpu for run in runs]) / rows * 1e6 for runs in (mine, bare)]
        cpu.append(
            entry(
                f"CPU per row, {in_flight} in flight", *per_row, unit="µs", reference="bare loop", target="≤ 1.3×",
                bound=("<=", 1.3),
            )
        )  # fmt: skip
    return entries + cpu


def latency(bench):
    entries = []
    waves = 4 if bench.options.quick else 40
    for in_flight, limit in ((64, 0.98), (256, 0.98), (1000, 0.95)):
        rows = waves * in_flight
        project = bench.project(rows)
        ideal = in_flight / 0.5
        late = []
        with Server(bench, latency=500, threads=1) as server:

            def ours():
                folder = bench.copy_of(project, "latency")
                server.control("reset")
                run = bench.ours(folder, *RUN, "realtime", "--concurrency", in_flight, "--base-url", server.url)
                stats = server.control("stats")
                bench.expect_answered(folder, rows)
                if stats["chats"] != rows:
                    raise Failed(f"the server saw {stats['chats']} calls, not {rows}")
                late.append(stats["mean_late_us"] / 1000)
                return run

            (mine,) = bench.alternate(ours)
        entries.append(
            entry(
                f"{in_flight} in flight, {rows:,} rows", rows / walls(mine), ideal, unit="rows/s",
                reference="in flight ÷ latency", target=f"≥ {limit}, no call failed", bound=(">=", limit),
                note=f"{spread(mine)}; the server's own replies were {median(late):.1f} ms late",
            )
        )  # fmt: skip
    return entries


def add(bench):
    rows = bench.options.rows
    table = bench.table(rows)

    def ours(*more):
        def side():
            folder = bench.folder("add")
            bench.init(folder)
            run = bench.ours(folder, "add", "-q", table, *more)
            if bench.status(folder)["rows"] != rows:
                raise Failed("rows are missing")
            return run

        return side

    def bare():
        return bench.reference("add", table, bench.folder("bare") / "bare.db")

    def sqlite():
        folder = bench.folder("sqlite")
        return bench.measure(
            shutil.which("sqlite3"), folder / "rows.db", "-cmd", "PRAGMA journal_mode=WAL", f".import --csv '{table}' rows"
        )

    sides = [ours(), bare, ours("--key", "id")] + ([sqlite] if shutil.which("sqlite3") else [])
    taken = bench.alternate(*sides)
    size = os.path.getsize(table) / 1e6
    what = f"{rows:,} rows, {size:.0f} MB"
    entries = [
        timed(what, taken[0], taken[1], "bare add", 1.4),
        timed(f"{what}, `--key id`", taken[2], taken[1], "bare add", 1.4),
    ]
    if len(taken) > 3:
        entries.append(timed(what, taken[0], taken[3], "`sqlite3 .import`, WAL", 1.5))
    else:
        entries.append({"what": f"{what} against `sqlite3 .import`", "target": "≤ 1.5×", "skipped": "no sqlite3 here"})
    return entries


def plan(bench):
    rows = bench.options.rows
    table, project = bench.table(rows), bench.project(rows, SHORT_PROMPT)
    counted = []

    def ours():
        return bench.ours(project.parent, "plan", "--exact", "--json", "--examples", 0)

    def bare():
        run = bench.reference("count", table)
        counted.append(run.json()["tokens"])
        run.wall = run.json()["seconds"]
        return run

    mine, theirs = bench.alternate(ours, bare)
    return [timed(f"{rows:,} due rows, {counted[0] / 1e6:.1f} million tokens", mine, theirs, "tokenizer alone", 1.5)]


def batch(bench):
    rows = min(50_000, bench.options.rows)
    table, project, prompt = bench.table(rows), bench.project(rows, LONG_PROMPT), bench.prompt(LONG_PROMPT)
    with Server(bench, threads=2) as server:
        batches = []

        def ours():
            folder = bench.copy_of(project, "batch")
            options = ("batch", "--batch-size", rows, "--poll", "100ms", "--base-url", server.url)
            server.control("hold")
            pack = bench.ours(folder, *RUN, *options, "--no-canary", "--no-wait", codes=(4,))
            if bench.status(folder)["requests"]["in_batch"] != rows:
                raise Failed("not all rows are in the batch")
            server.control("release")
            collect = bench.ours(folder, *RUN, *options)
            bench.expect_answered(folder, rows)
            pack.size = server.get("/v1/files?limit=1")["data"][0]["bytes"]
            return pack, collect

        def recorded():
            folder = bench.folder("bare")
            return bench.reference(
                "pack", table, server.url, "--prompt", prompt, "--size", rows, "--record", folder / "bare.db"
            )

        def bare():
            pack = bench.reference("pack", table, server.url, "--prompt", prompt, "--size", rows)
            batches.append(pack.json()["batches"][0])
            collect = bench.reference("collect", server.url, batches[-1], bench.folder("bare") / "bare.db")
            pack.size, collect.size = pack.json()["bytes"], collect.json()["bytes"]
            return pack, collect

        mine, theirs, promised = bench.alternate(ours, bare, recorded)
    (packs, collects), (bare_packs, bare_collects) = zip(*mine, strict=True), zip(*theirs, strict=True)
    sent, came = packs[0].size / 1e6, bare_collects[0].size / 1e6
    if abs(packs[0].size / bare_packs[0].size - 1) > 0.02:
        raise Failed(f"the program sends {packs[0].size} bytes, the reference {bare_packs[0].size}")
    what = f"{rows:,} due rows packed and uploaded, {sent:.0f} MB"
    aside = timed(what, packs, promised, "bare pack that records each promise first", 2) | {"target": "–", "met": None}
    return [
        timed(what, packs, bare_packs, "bare pack, which records nothing", 2),
        aside,
        timed(f"{rows:,} result lines collected, {came:.0f} MB", collects, bare_collects, "bare collect", 1.3),
    ]


def job(bench):
    rows = min(50_000, bench.options.rows)
    table, prompt = bench.table(rows), bench.prompt(LONG_PROMPT)
    with Server(bench, threads=2) as server:

        def ours():
            folder = bench.folder("job")
            parts = [
                bench.init(folder, LONG_PROMPT, server.url),
                bench.ours(folder, "add", "-q", table),
                bench.ours(folder, *RUN, "batch", "--poll", "1s"),
            ]
            bench.expect_answered(folder, rows)
            parts[-1].parts = [part.wall for part in parts]
            parts[-1].wall = sum(parts[-1].parts)
            return parts[-1]

        def bare():
            return bench.reference("job", table, bench.folder("bare") / "bare.db", server.url, "--prompt", prompt)

        mine, theirs = bench.alternate(ours, bare)
        add_s, run_s = (median([run.parts[at] for run in mine]) for at in (1, 2))
        bare_entry = timed(f"{rows:,} rows: init, add ({add_s:.2f} s), run --poll 1s ({run_s:.2f} s)", mine, theirs, "bare job", 2)
    entries = [bare_entry]
    for name, limit, answers in (("instructor", 4, "json"), ("curator", 12, "text")):
        with Server(bench, threads=2, answers=answers) as server:
            entries.append(tools.batch_entry(bench, (name, limit), (server, rows, walls(mine))))
    return entries


def export(bench):
    rows = bench.options.rows
    project = bench.answered(rows, 0)
    folder = bench.copy_of(project, "export")
    sql = tools.EXPORT_SQL

    def ours():
        return bench.ours(folder, "export", "-q", "ours.csv")

    def bare():
        return bench.reference("export", folder / "overnight.db", folder / "bare.csv")

    def sqlite():
        return bench.measure(shutil.which("sqlite3"), "-header", "-csv", folder / "overnight.db", sql, out=folder / "sql.csv")

    sides = [ours, bare] + ([sqlite] if shutil.which("sqlite3") else [])
    taken = bench.alternate(*sides)
    if not filecmp.cmp(folder / "ours.csv", folder / "bare.csv", shallow=False):
        raise Failed("the program and the reference wrote different files")
    size = os.path.getsize(folder / "ours.csv") / 1e6
    what = f"{rows:,} rows, {size:.0f} MB"
    entries = [timed(what, taken[0], taken[1], "bare export, the same bytes", 1.5)]
    if len(taken) > 2:
        entries.append(faster(what, walls(taken[0]), walls(taken[2]), ("`sqlite3 -csv`", 1.5)))
    else:
        entries.append({"what": what, "target": "≥ 1.5× faster", "skipped": "no sqlite3 here"})
    entries.append(tools.pandas_entry(bench, (what, folder), walls(taken[0])))
    return entries


def faster(what, ours, theirs, to):
    reference, limit = to
    made = entry(what, ours, theirs, unit="s", reference=reference, target=f"≥ {limit}× faster")
    made["ratio"] = theirs / ours
    made["met"] = made["ratio"] >= limit
    return made


def start(bench):
    large = bench.options.rows
    small = large // 10
    due = large // 1000
    counts = {rows: counting(bench, rows, due) for rows in (large, small)}
    projects = {rows: bench.copy_of(bench.answered(rows, due), f"start-{rows}") for rows in (large, small)}
    each = max(due // (2 * bench.runs), 1)

    def status(rows):
        return lambda: bench.ours(projects[rows], "status", "--json")

    def sqlite(rows):
        return lambda: bench.measure(
            shutil.which("sqlite3"), counts[rows], "SELECT state, count(*) FROM request GROUP BY state"
        )

    if not shutil.which("sqlite3"):
        return [{"what": "status", "target": "≤ 3×", "skipped": "no sqlite3 here"}]
    with Server(bench, threads=1) as server:

        def first(rows):
            def side():
                server.control("reset")
                spawned = time.time_ns()
                run = bench.ours(
                    projects[rows], *RUN, "realtime", "--limit", each, "--concurrency", 64, "--base-url", server.url
                )
                run.wall = (server.control("stats")["first_chat_ns"] - spawned) / 1e9
                if not 0 < run.wall < 600:
                    raise Failed("no request was seen")
                return run

            return side

        sides = [side(rows) for rows in (large, small) for side in (status, first, sqlite)]
        taken = bench.alternate(*sides)
    in_ms = [walls(runs) * 1000 for runs in taken]
    entries = []
    for at, name in ((0, "`status --json`"), (1, "first request of a resumed run")):
        what = f"{name}, {large:,} rows, {large - due:,} answered"
        entries.append(
            entry(what, in_ms[at], in_ms[2], unit="ms", reference="`sqlite3` counting", target="≤ 3×", bound=("<=", 3))
        )
        entries.append(
            entry(
                f"{name}, the same against {small:,} rows", in_ms[at], in_ms[at + 3], unit="ms",
                reference=f"itself with {small - due:,} answered", target="not growing (≤ 1.25×)", bound=("<=", 1.25),
            )
        )  # fmt: skip
    return entries


def counting(bench, rows, due):
    """Makes a database with nothing but states and an index on them."""
    path = bench.work / f"states-{rows}.db"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("ATTACH ? AS project", [str(bench.answered(rows, due))])
        conn.execute("CREATE TABLE request (id INTEGER PRIMARY KEY, state TEXT NOT NULL)")
        conn.execute(
            "INSERT INTO request SELECT row.id, coalesce(state, 'pending') FROM project.row "
            "LEFT JOIN project.request ON request.row_id = row.id"
        )
        conn.execute("CREATE INDEX request_state ON request (state)")
        conn.commit()
    return path


def audit(bench):
    rows = bench.options.rows
    folder = bench.copy_of(bench.answered(rows, 0), "audit")
    mine, theirs = bench.alternate(
        lambda: bench.ours(folder, "audit", "--json"), lambda: bench.reference("audit", folder / "overnight.db")
    )
    size = theirs[0].json()["bytes"] / 1e6
    return [timed(f"{rows:,} rows, {size:,.0f} MB of bodies and replies", mine, theirs, "bare audit, one core", 1.5)]


def file(bench):
    entries = []
    rows = bench.options.rows
    folder = bench.copy_of(bench.answered(rows, 0), "file")
    entries.append(size_of(bench, folder, f"{rows:,} rows by calls, 1.2 kB prompt"))
    rows = min(50_000, rows)
    with Server(bench, threads=2) as server:
        folder = bench.copy_of(bench.project(rows, LONG_PROMPT), "file")
        bench.ours(folder, *RUN, "batch", "--poll", "100ms", "--base-url", server.url)
        bench.expect_answered(folder, rows)
    entries.append(size_of(bench, folder, f"{rows:,} rows by batch, 2 kB prompt"))
    return entries


def size_of(bench, folder, what):
    ours = sum(path.stat().st_size for path in folder.glob("overnight.db*"))
    plain = bench.reference("jsonl", folder / "overnight.db", folder / "plain.jsonl").json()["bytes"]
    return entry(
        what, ours / 1e6, plain / 1e6, unit="MB", reference="bodies and replies as JSON Lines", target="≤ 0.5×",
        bound=("<=", 0.5), note="the file holds the rows too",
    )  # fmt: skip


def binary(bench):
    size = bench.program.stat().st_size / 1e6
    runs = 20 if bench.options.quick else 200
    said = bench.reference("spawn", runs, bench.program, "/bin/true").json()
    return [
        {"what": "size", "ours": size, "unit": "MB", "target": "≤ 25 MB", "met": size <= 25},
        entry(
            f"`--version`, {runs} times", said["program_ms"], said["other_ms"], unit="ms",
            reference="`/bin/true`, spawned the same way", target="≤ 2×", bound=("<=", 2),
        ),
    ]  # fmt: skip


def memory(bench):
    """Peak memory at three sizes. A process's peak is the same from run to run within a few per cent: the most of some runs."""
    most = bench.options.rows
    sizes = (most // 100, most // 10, most)
    peaks = {}
    for rows in sizes:
        for _ in range(1 if rows == most else 3):
            for command, peak in peaks_at(bench, rows).items():
                peaks.setdefault(command, {}).setdefault(rows, []).append(peak)
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    entries = []
    for command, by_rows in peaks.items():
        small, middle, large = (max(by_rows[rows]) for rows in sizes)
        made = entry(
            command, large, middle, unit="MB", reference=f"itself at {sizes[1]:,} rows", target="≤ 120 MB, ≤ 1.1×",
            note=f"{small:.0f} → {middle:.0f} → {large:.0f} MB",
        )  # fmt: skip
        made["met"] = large <= 120 and made["ratio"] <= 1.1
        entries.append(made)
    return entries


def peaks_at(bench, rows):
    table = bench.table(rows)
    size = max(bench.options.rows // 100, 1)
    peaks = {}
    with Server(bench, threads=2) as server:
        folder = bench.folder("memory")
        bench.init(folder, PROMPT, server.url)
        peaks["add"] = bench.peak(folder, "add", "-q", table)
        peaks["plan --exact"] = bench.peak(folder, "plan", "--exact", "--json")
        by_batch = bench.copy_of(folder / "overnight.db", "memory-batch")
        peaks["run, realtime, 256 in flight"] = bench.peak(folder, *RUN, "realtime", "--concurrency", 256)
        bench.expect_answered(folder, rows)
        peaks["export"] = bench.peak(folder, "export", "-q", "out.csv")
        peaks["audit"] = bench.peak(folder, "audit", "--json")
        peaks["status"] = bench.peak(folder, "status", "--json")
        shutil.rmtree(folder)
        batches = ("batch", "--batch-size", size, "--poll", "100ms")
        server.control("hold")
        peak = bench.peak(by_batch, *RUN, *batches, "--no-canary", "--no-wait", codes=(4,))
        peaks[f"run, batches of {size:,} packed and uploaded"] = peak
        server.control("release")
        peaks[f"run, batches of {size:,} collected"] = bench.peak(by_batch, *RUN, *batches)
        bench.expect_answered(by_batch, rows)
        shutil.rmtree(by_batch)
    return peaks


LINES = {
    "realtime": realtime,
    "tools": tools.realtime,
    "latency": latency,
    "add": add,
    "plan": plan,
    "batch": batch,
    "job": job,
    "export": export,
    "start": start,
    "audit": audit,
    "memory": memory,
    "file": file,
    "binary": binary,
}
