//! What tests of the batch route do with the program: projects at a batch provider, runs that do not outlive
//! their test, and what must hold of the table that comes back.

use std::io::Read;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::{Folder, Said};
use super::BatchProvider;

/// A command under way, which does not outlive its test.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(folder: &Folder, args: &[&str]) -> Self {
        let mut child = folder.start(args);
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, stdout: Some(drain(stdout)), stderr: Some(drain(stderr)) }
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it where it stands.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Does what Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Waits for its end, within a generous bound.
    #[track_caller]
    pub(crate) fn end(mut self) -> Said {
        let mut was_in_time = false;
        for _ in 0..9000 {
            was_in_time = self.is_over();
            if was_in_time {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if !was_in_time {
            self.child.kill().unwrap();
        }
        let code = self.child.wait().unwrap().code();
        let read = |stream: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8(stream.unwrap().join().unwrap()).unwrap()
        };
        let said =
            Said { code, stdout: read(self.stdout.take()), stderr: read(self.stderr.take()) };
        assert!(was_in_time, "it did not come to its end: {said:#?}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    })
}

/// Texts that differ, `row 1` and on.
pub(crate) fn texts(count: usize) -> Vec<String> {
    (1..=count).map(|row| format!("row {row}")).collect()
}

/// A project of these texts at a provider, with more arguments for `init`.
pub(crate) fn project(provider: &BatchProvider, texts: &[String], init: &[&str]) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "test");
    let url = provider.base_url();
    let prompt: &[&str] =
        if init.contains(&"--prompt") { &[] } else { &["--prompt", "Say: {{ text }}"] };
    folder.ok(&[&["init", "--model", "test-model", "--base-url", &url], prompt, init].concat());
    add(&folder, "rows.csv", texts);
    folder
}

/// Adds these texts to a project.
pub(crate) fn add(folder: &Folder, name: &str, texts: &[String]) {
    folder.write(name, format!("text\n{}\n", texts.join("\n")));
    folder.ok(&["add", name]);
}

/// Runs by the batch route to the end.
#[track_caller]
pub(crate) fn run(folder: &Folder, args: &[&str]) -> Said {
    Running::start(folder, &[&["run", "--route", "batch", "--poll", "20ms"], args].concat()).end()
}

/// Runs by whichever route is best to the end.
#[track_caller]
pub(crate) fn run_auto(folder: &Folder, args: &[&str]) -> Said {
    Running::start(folder, &[&["run", "--poll", "20ms"], args].concat()).end()
}

/// Reads columns of the exported table, row by row.
pub(crate) fn exported(folder: &Folder, columns: &[&str]) -> Vec<Vec<String>> {
    let table = folder.ok(&["export", "-", "--details"]).stdout;
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let header = reader.headers().unwrap().clone();
    let at = |name: &&str| header.iter().position(|found| found == *name).unwrap();
    let places: Vec<usize> = columns.iter().map(at).collect();
    let rows = reader.records().map(Result::unwrap);
    rows.map(|row| places.iter().map(|place| row[*place].to_owned()).collect()).collect()
}

/// Demands that each text has its answer in its place, bought once.
#[track_caller]
pub(crate) fn all_answered_once(folder: &Folder, provider: &BatchProvider, texts: &[String]) {
    all_answered(folder, texts);
    let bought = provider.bought();
    let wanted = texts.iter().map(|text| (format!("Say: {text}"), 1)).collect();
    assert_eq!(bought, wanted);
}

/// Demands that each text has its answer in its place.
#[track_caller]
pub(crate) fn all_answered(folder: &Folder, texts: &[String]) {
    let wanted: Vec<Vec<String>> = texts
        .iter()
        .map(|text| {
            vec![text.clone(), format!("SAY: {}", text.to_uppercase()), "answered".to_owned()]
        })
        .collect();
    assert_eq!(exported(folder, &["text", "answer", "state"]), wanted);
}

/// Asks the record as any other program would; each value is text.
pub(crate) fn query(folder: &Folder, sql: &str) -> Vec<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "read as any other program would")]
    let conn = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let text = |value| match value {
        rusqlite::types::Value::Null => String::new(),
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Real(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        rusqlite::types::Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    };
    let rows = statement.query_map([], |row| {
        (0..columns).map(|column| Ok(text(row.get(column)?))).collect::<Result<Vec<_>, _>>()
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}
