//! A run of the program that is watched: how long it takes, and how much memory it ever has.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::{Folder, Said};

/// How a command ended, and what it took.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) said: Said,
    pub(crate) took: Duration,
    /// The most memory that it had, in KiB.
    pub(crate) peak_kib: u64,
}

impl Ended {
    /// Demands an exit code, and that nothing broke off on the way.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.said.code, Some(code), "{:#?}", self.said);
        self.is_sound();
        self
    }

    /// Demands that nothing broke off inside.
    #[track_caller]
    pub(crate) fn is_sound(&self) {
        for words in ["panicked", "mistake in overnight", "RUST_BACKTRACE", "broke off"] {
            assert!(!self.said.stderr.contains(words), "{:#?}", self.said);
        }
    }
}

/// Runs a command, which must end by itself within `bound`.
#[track_caller]
pub(crate) fn watch(folder: &Folder, args: &[&str], bound: Duration) -> Ended {
    let start = now();
    let mut child = folder.start(args);
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let drain = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            String::from_utf8(all).unwrap()
        })
    };
    let (stdout, stderr) = (drain(Box::new(stdout)), drain(Box::new(stderr)));
    let mut peak_kib = 0;
    let code = loop {
        peak_kib = peak_of(child.id()).unwrap_or(0).max(peak_kib);
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if start.elapsed() > bound {
            child.kill().unwrap();
            child.wait().unwrap();
            let said =
                Said { code: None, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
            panic!("it did not end within {bound:?}: {said:#?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = Said { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    Ended { said, took: start.elapsed(), peak_kib }
}

#[expect(clippy::disallowed_methods, reason = "how long a process takes is what is tested")]
fn now() -> Instant {
    Instant::now()
}

/// The kernel's own high-water mark of a process.
fn peak_of(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
