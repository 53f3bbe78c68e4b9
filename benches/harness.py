"""What all measures share: children with their time, CPU and peak memory; the mock provider; data; results."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.request

TREE = pathlib.Path(__file__).resolve().parent.parent
SHORT_PROMPT = "Is this review positive, negative or mixed? {{ review }}"
RULES = [
    "Say first whether the review as a whole is positive, negative or mixed, and name the one sentence that decides it.",
    "Treat the product, the delivery and the service as three different things; a late parcel makes no bad kettle.",
    "Irony counts for what it means, not for what it says. Exaggeration is no irony.",
    "리뷰가 한국어로 쓰였더라도 답은 영어로 합니다. 다만 인용한 문장은 원문 그대로 둡니다.",
    "Numbers, dates and order codes are no part of the judgement; never repeat an order number or a person's name.",
    "Where the writer changes their mind within the text, the last opinion counts, and you say that it changed.",
    "If the text holds no opinion at all, answer `none` and say in five words what it is instead.",
    "Never guess what the writer might have meant by a word that you do not know; quote it and go on.",
    "Complaints about the price alone are negative only if the writer says that the product is not worth it.",
    "A recommendation to friends or family outweighs a single defect, unless the defect made the product useless.",
    "Comparisons with other products count only where the writer has used both; hearsay of neighbours counts for nothing.",
    "Do not thank the writer, do not apologise, and do not address anybody.",
    "Keep the paragraph under sixty words, without lists, headings, emphasis or quotation marks of your own.",
]


def prompt_of(rules):
    return (
        "You label product reviews for a shop that sells in Korea and abroad. Read the review below and answer with a "
        "short paragraph.\n\n"
        + "\n".join(f"{number}. {rule}" for number, rule in enumerate(rules, 1))
        + "\n\nReview:\n{{ review }}\n\nAnswer:"
    )


# With it a request has about 1.2 kB, as many people's have.
PROMPT = prompt_of(RULES[:6])
# With it a request has about 2 kB, so that 50,000 of them are 100 MB.
LONG_PROMPT = prompt_of(RULES)


class Failed(Exception):
    """A measure that cannot be taken, or a result that is not what it must be."""


class Run:
    """What a child took."""

    def __init__(self, wall, usage, code, out):
        self.wall, self.code, self.out = wall, code, out
        self.cpu = usage.ru_utime + usage.ru_stime
        self.rss_mb = usage.ru_maxrss / 1024

    def json(self):
        """Reads all of its output as JSON, or else the last line."""
        for text in (self.out, self.out.strip().rpartition("\n")[2]):
            with contextlib.suppress(ValueError):
                return json.loads(text)
        raise Failed(f"not JSON: {self.out[-200:]!r}")


class Bench:
    """One call of the driver: its programs, its folders, how much and how often."""

    def __init__(self, options, program, bare):
        self.options, self.program, self.bare = options, program, bare
        self.runs = options.runs
        self.data = TREE / "target/bench/data" if not options.dir else pathlib.Path(options.dir) / "data"
        self.work = self.data.parent / "work"
        if options.fresh:
            shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OVERNIGHT_", "OPENAI_", "HTTP", "http", "ALL_PROXY", "all_proxy"))
        } | {"OPENAI_API_KEY": "sk-bench", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def folder(self, name):
        """Makes an empty folder."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def measure(self, *command, cwd=None, codes=(0,), out=None):
        """Runs a child to its end. What was written before is on the disk first, so that nobody pays for another."""
        os.sync()
        out_path, err_path = out or self.work / "stdout", self.work / "stderr"
        with open(out_path, "wb") as stdout, open(err_path, "wb") as stderr:
            start = time.perf_counter()
            child = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd or self.work,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
        text = "" if out else out_path.read_text(errors="replace")
        run = Run(wall, usage, child.returncode, text)
        if run.code not in codes:
            said = err_path.read_text(errors="replace").strip()[-400:]
            raise Failed(f"{' '.join(str(word) for word in command[:3])} … ended with {run.code}: {said}")
        return run

    def peak(self, folder, *command, codes=(0,)):
        """Runs the program and returns its peak memory in MB. A child begins with its parent's peak, so the parent is the
        smallest that there is."""
        if not os.path.exists("/usr/bin/time"):
            return self.ours(folder, *command, codes=codes).rss_mb
        into = self.work / "peak"
        self.measure("/usr/bin/time", "-f", "%M", "-o", into, self.program, *command, cwd=folder, codes=codes)
        return int(into.read_text().split()[-1]) / 1024

    def ours(self, folder, *command, codes=(0,)):
        """Runs the program in a project's folder."""
        return self.measure(self.program, *command, cwd=folder, codes=codes)

    def reference(self, *command):
        return self.measure(self.bare, *command)

    def table(self, rows):
        """Returns the table with so many rows; made once."""
        path = self.data / f"reviews-{rows}.csv"
        if not path.exists():
            self.reference("gen", rows, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        return path

    def prompt(self, text):
        """Returns a file with a prompt."""
        path = self.data / f"prompt-{len(text)}.txt"
        path.write_text(text)
        return path

    def init(self, folder, text=PROMPT, url="http://127.0.0.1:9/v1"):
        return self.ours(folder, "init", "-q", "--model", "gpt-4o-mini", "--base-url", url, "--prompt", text)

    def project(self, rows, text=PROMPT):
        """Returns a project with so many rows that are all due; made once a call, for it is cheap."""
        path = self.work / f"due-{len(text)}-{rows}" / "overnight.db"
        if not path.exists():
            folder = self.folder(path.parent.name)
            self.init(folder, text)
            self.ours(folder, "add", "-q", self.table(rows))
        return path

    def copy_of(self, project, name):
        """Returns a folder of its own with a copy of a project."""
        folder = self.folder(name)
        shutil.copyfile(project, folder / "overnight.db")
        return folder

    def answered(self, rows, due):
        """Returns a project with so many rows, of which all but `due` are answered; kept from call to call."""
        with contextlib.closing(sqlite3.connect(self.project(min(rows, 1000)))) as conn:
            (form,) = conn.execute("PRAGMA user_version").fetchone()
        path = self.data / f"answered-{rows}-{due}-format-{form}.db"
        if path.exists():
            return path
        say(f"making a project of {rows:,} rows with {rows - due:,} answered; it is kept")
        with Server(self, threads=1) as server:
            folder = self.copy_of(self.project(rows), "answering")
            self.ours(
                folder, "run", "-q", "--route", "realtime", "--concurrency", 256, "--yes", "--base-url", server.url,
                "--limit", rows - due,
            )  # fmt: skip
        self.expect_answered(folder, rows - due)
        shutil.move(folder / "overnight.db", path)
        return path

    def status(self, folder):
        return self.ours(folder, "status", "--json").json()

    def expect_answered(self, folder, rows, attempts=None):
        """Takes no number from a run that did not do its work, or did some of it twice."""
        status = self.status(folder)
        got = status["requests"]["answered"], status["attempts"]
        if got != (rows, attempts or rows):
            raise Failed(f"{got[0]} answered by {got[1]} attempts, not {rows}")

    def alternate(self, *sides, runs=None):
        """Runs each side in turn, so often; returns a list of what they returned for each."""
        taken = [[] for _ in sides]
        for turn in range(runs or self.runs):
            for at, side in enumerate(sides):
                taken[at].append(side())
                print(".", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)
        return taken


class Server:
    """The mock provider in a process of its own."""

    def __init__(self, bench, latency=0, threads=1, answers="text"):
        self.bench = bench
        self.command = [str(bench.bare), "serve", "--latency", str(latency), "--threads", str(threads), "--answers", answers]

    def __enter__(self):
        self.child = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.child.pid, resource.RLIMIT_NOFILE, (most, most))
        self.url = self.child.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
        self.child.stdout.close()

    def get(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url.removesuffix("/v1") + path) as reply:
            return json.load(reply)

    def control(self, word):
        return self.get(f"/control/{word}")


def median(numbers):
    return statistics.median(numbers)


def say(text):
    print(text, file=sys.stderr, flush=True)
