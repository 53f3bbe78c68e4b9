//! A project in a folder of its own, the real binary, and a provider in this process that outlives every kill.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use overnight::domain::UnixMs;
use overnight::engine::Clock;
use overnight::simulate::{self, Ledger, Settings, Simulator};
use overnight::store::Store;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The project's file.
pub(crate) const PROJECT: &str = "overnight.db";
/// The longest that any command here may take before it is taken for one that hangs.
const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two looks whether a command has ended.
const LOOK: Duration = Duration::from_millis(1);

/// A project and its provider.
pub(crate) struct Site {
    dir: TempDir,
    simulator: Simulator,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// How a process ends that stops itself at a point.
pub(crate) const STOPPED: End = End::Signal(6);

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) end: End,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Demands an exit code.
    #[track_caller]
    pub(crate) fn ends(self, code: i32, context: &str) -> Self {
        assert_eq!(self.end, End::Code(code), "{context}: {self:#?}");
        self
    }
}

/// A command that is under way.
pub(crate) struct Running {
    child: Child,
}

/// The runtime of all providers of this process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A folder in memory where there is one: thousands of commits are made here, and what a disk does with them is
/// not in question.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Site {
    /// Starts a provider, and a folder with copies of these files.
    pub(crate) fn new(settings: Settings, files: &[PathBuf]) -> Self {
        let dir = folder();
        for file in files {
            std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        let simulator = runtime().block_on(simulate::start(settings)).unwrap();
        Self { dir, simulator }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.simulator.ledger()
    }

    /// Counts the commits that stand in the WAL, by its own format: a frame with a size of the database ends one.
    pub(crate) fn commits_in_wal(&self) -> usize {
        let wal = std::fs::read(self.path(&format!("{PROJECT}-wal"))).unwrap_or_default();
        let Some(salts) = wal.get(16..24) else { return 0 };
        let page = u32::from_be_bytes(wal[8..12].try_into().unwrap()) as usize;
        let frames = wal[32..].chunks_exact(24 + page);
        frames.filter(|frame| &frame[8..16] == salts && frame[4..8] != [0; 4]).count()
    }

    /// Copies the project as it lies there, with what stands beside it, and opens the copy: what is to be cut
    /// stays as it was cut.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let dir = folder();
        for suffix in ["", "-wal"] {
            let name = format!("{PROJECT}{suffix}");
            let from = self.path(&name);
            if from.exists() {
                std::fs::copy(from, dir.path().join(name)).unwrap();
            }
        }
        Snapshot { dir }
    }

    fn command(&self, args: &[&str], stop: Stop) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overnight"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOSTNAME", "testhost")
            .env("NO_PROXY", "127.0.0.1")
            .env("OPENAI_BASE_URL", self.simulator.base_url())
            .env("OPENAI_API_KEY", "sk-of-a-test")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(at) = stop.at {
            command.env("OVERNIGHT_STOP_AT", at.to_string());
        }
        if let Some(list) = stop.list {
            command.env("OVERNIGHT_STOP_LIST", list);
        }
        command
    }

    /// Starts a command.
    pub(crate) fn start(&self, args: &[&str], stop: Stop) -> Running {
        Running { child: self.command(args, stop).spawn().unwrap() }
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.start(args, Stop::default()).end(args)
    }

    /// Runs a command that must do what it is asked.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Said {
        self.run(args).ends(0, &args.join(" "))
    }

    /// Runs a command until it has passed so many points, and lists them. Returns how it ended and the points.
    #[track_caller]
    pub(crate) fn run_to(&self, args: &[&str], at: Option<u64>) -> (Said, Vec<String>) {
        let list = folder();
        let list = list.path().join("points");
        let said = self.start(args, Stop { at, list: Some(&list) }).end(args);
        let points = std::fs::read_to_string(&list).unwrap_or_default();
        (said, points.lines().map(|line| line.trim().to_owned()).collect())
    }
}

/// At which point a command stops, and where it lists those that it passed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stop<'a> {
    pub(crate) at: Option<u64>,
    pub(crate) list: Option<&'a Path>,
}

impl Running {
    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(self, args: &[&str]) -> Said {
        self.end_within(PATIENCE).unwrap_or_else(|said| panic!("{args:?} hangs: {said:#?}"))
    }

    /// Waits for its end, and kills it where that takes longer.
    pub(crate) fn end_within(mut self, patience: Duration) -> Result<Said, Said> {
        #[expect(clippy::disallowed_methods, reason = "a test has no other clock")]
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if start.elapsed() > patience {
                // A command that has just ended by itself is as good as one that was killed.
                let _ = self.child.kill();
                return Err(self.said());
            }
            std::thread::sleep(LOOK);
        }
        Ok(self.said())
    }

    fn said(self) -> Said {
        let output = self.child.wait_with_output().unwrap();
        let end = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, Some(signal)) => End::Signal(signal),
            (None, None) => panic!("it has not ended"),
        };
        Said {
            end,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A copy of a project as it lay there at one moment.
pub(crate) struct Snapshot {
    dir: TempDir,
}

impl Snapshot {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(PROJECT)
    }

    /// Has it audited.
    pub(crate) fn audit(&self) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overnight"));
        command.args(["audit", "--json"]).current_dir(self.dir.path()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap() }.end(&["audit"])
    }

    /// Opens it as the program does.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path(), Clock::now()).unwrap()
    }

    /// Opens it as any other program would.
    pub(crate) fn conn(&self) -> rusqlite::Connection {
        #[expect(clippy::disallowed_methods, reason = "read as any other program would")]
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

/// Settings of a provider that answers at once.
pub(crate) fn settings() -> Settings {
    fn now() -> UnixMs {
        Clock::now()
    }
    Settings::new(now)
}
