"""Writes docs/benchmarks.md from results."""

import pathlib

REMARKS = pathlib.Path(__file__).resolve().parent / "remarks"

TITLES = {
    "realtime": "Realtime, an instant server, every reply durable as promised",
    "tools": "The same against public tools",
    "latency": "Realtime, a server that takes 500 ms, 40 waves",
    "add": "`add`",
    "plan": "`plan --exact`",
    "batch": "50,000 rows by batch: packed and uploaded, then collected",
    "job": "A whole batch job of 50,000 rows, an instant provider",
    "export": "`export` to CSV",
    "start": "`status`, and the first request of a resumed run",
    "audit": "`audit`",
    "memory": "Peak memory",
    "file": "The project file",
    "binary": "The binary",
}
MISSING = "–"

HEAD = """# Benchmarks

What the program takes of time and memory, against what a bare loop with the same crates takes for the same work in the
same run, and against public tools where they are installed. Written by `just bench`; every figure is a median, both sides
run in turn, and a run that did not do all of its work gives no figure. Nothing here reaches a network: the provider is
`bare serve`, a mock on the same machine, so it takes its part of the cores too.

    just bench                              all of it, at full size: about an hour
    just bench --only realtime,add          some lines; the others keep their figures
    just bench --quick                      a look at how it goes; this page is left alone
"""

REFERENCES = """## What the references are

All of them stand in `benches/bare/`, are built with the same crates and the same profile, and share no code with the
program. `benches/README.md` says more of how they are called.

| reference | does | does not |
| --- | --- | --- |
| bare loop (realtime) | renders, hashes and compresses each body; commits a promise before the send; one writer, WAL, `synchronous=FULL`, groups of up to 1,024; reads the reply typed, keeps it raw (compressed), with its tokens, cost and ids | looks for requests that are the same, tries again, paces, keeps states or indexes, budgets |
| bare add | csv → JSON object → SHA-256 → insert, a commit every 10,000 rows, WAL, FULL | notices rows that are there already, keeps keys, positions or indexes, guesses encodings |
| tokenizer alone | counts the texts, in memory, on all cores; the vocabulary is loaded before | reads, renders |
| bare pack | renders and writes the same bytes and streams them to the server while they are made | records anything |
| bare collect | downloads, parses typed, inserts the same columns with the raw line compressed, FULL | looks up what a line is for, keeps states |
| bare job | rows, requests and replies all on the disk, one batch | the same as above |
| bare export | reads the same project file in one query, writes the same bytes (they are compared) | states other than by their word, layouts |
| bare audit | decompresses and hashes every body and reply of the same project file, on one core | checks anything |
| SQLite's own counting | `sqlite3`: `SELECT state, count(*) … GROUP BY state` over an index made for it | anything else |

Peak memory is what the kernel says of the process when it is over (`ru_maxrss`), the driver's own few MB being the least
that can be seen.
"""


def number(value):
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"


def with_unit(value, entry):
    unit = entry.get("unit", "")
    return number(value) + (f" {unit}" if unit and value is not None else "")


def verdict(entry):
    if entry.get("failed"):
        return "failed"
    if entry.get("skipped"):
        return "not measured"
    return {True: "met", False: "**not met**", None: MISSING}[entry.get("met")]


def in_words(entry):
    if entry.get("failed"):
        return f"{entry['what']}: FAILED: {entry['failed']}"
    if entry.get("skipped"):
        return f"{entry['what']}: not measured: {entry['skipped']}"
    ours, theirs = with_unit(entry.get("ours"), entry), with_unit(entry.get("theirs"), entry)
    ratio = entry.get("ratio")
    return (
        f"{entry['what']}: {ours} against {theirs} ({entry.get('reference', '')}), "
        f"ratio {number(ratio)}, target {entry.get('target', MISSING)}: {verdict(entry)}"
        + (f" [{entry['note']}]" if entry.get("note") else "")
    )


def cells(entry):
    if entry.get("failed") or entry.get("skipped"):
        why = entry.get("failed") or entry.get("skipped")
        why = why.replace("|", "\\|").replace("\n", " ")
        return [entry["what"], MISSING, why, MISSING, entry.get("target", MISSING), verdict(entry)]
    theirs = with_unit(entry.get("theirs"), entry)
    reference = entry.get("reference", "")
    return [
        entry["what"] + (f" ({entry['note']})" if entry.get("note") else ""),
        with_unit(entry.get("ours"), entry),
        f"{theirs}, {reference}" if reference else theirs,
        number(entry.get("ratio")),
        entry.get("target", MISSING),
        verdict(entry),
    ]


def write(results, path):
    machine = results.get("machine", {})
    out = [HEAD]
    if machine:
        out.append(
            f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['disk']}, "
            f"{machine['system']}; `fdatasync` behind 4 kB takes {machine['flush_ms']} ms (median).\n"
        )
    general = REMARKS / "general.md"
    if general.exists():
        out.append(general.read_text())
    for line, title in TITLES.items():
        taken = results["lines"].get(line)
        out.append(f"## {title}\n")
        if taken is None:
            out.append("Not measured yet.\n")
        else:
            out.append(f"{taken['date']}, commit {taken['commit']}, {taken['runs']} runs a side.\n")
            out.append("| what | the program | reference | ratio | target | |\n| --- | --- | --- | --- | --- | --- |")
            out.extend("| " + " | ".join(cells(entry)) + " |" for entry in taken["entries"])
            out.append("")
        remark = REMARKS / f"{line}.md"
        if remark.exists():
            out.append(remark.read_text())
    out.append(REFERENCES)
    path.write_text("\n".join(out).rstrip() + "\n")
