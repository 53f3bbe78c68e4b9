//! The copy that a rehearsal works on, and its end: it is removed whatever happens, also by Ctrl-C in the middle of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedSender;

use crate::cli::failure::{Exit, Failure};
use crate::cli::out::Out;
use crate::cli::simulate::EndSignals;
use crate::cli::text::size;
use crate::cli::{Context, shell_word};
use crate::engine::{Clock, Control};
use crate::store::{Backup, Store, free_bytes};

/// The copy's file, in a folder that holds nothing else.
const NAME: &str = "rehearsal.db";
/// What is left free on the disk besides the copy.
const MARGIN_BYTES: u64 = 64 << 20;
/// A copy that takes a while.
const LARGE_BYTES: u64 = 256 << 20;
/// How long a rehearsal that was interrupted has to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// A copy of the project, in a folder of its own.
pub(super) struct Scratch {
    file: PathBuf,
    bytes: u64,
    /// Removes the folder; `None` where it is to be kept.
    _folder: Option<TempDir>,
}

impl Scratch {
    /// Copies the project as it stands, into `keep` or a folder that is removed with this.
    pub(super) fn copy(
        keep: Option<&Path>,
        guard: &Guard,
        context: &Context,
    ) -> Result<Self, Failure> {
        // Asked first, so that a project that is not there is what is told.
        drop(Store::open_as_it_is(&context.project)?);
        let (folder, temporary) = if let Some(folder) = keep {
            (make_kept(folder)?, None)
        } else {
            let made = make_temporary()?;
            guard.watch_over(made.path());
            (made.path().to_owned(), Some(made))
        };
        let needed = must_have_room(&folder, context)?;
        if needed > LARGE_BYTES {
            context.out.say(&format!("copies the project first, about {}", size(needed)));
        }
        let file = folder.join(NAME);
        let backup = Backup::of(&context.project, &file)?;
        let bytes = backup.bytes()?;
        backup.put()?;
        Ok(Self { file, bytes, _folder: temporary })
    }

    /// Opens the copy for a run that nothing is lost with.
    pub(super) fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open_scratch(&self.file, Clock::now())?)
    }

    /// The copy's file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// How large the copy was when it was made.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn make_temporary() -> Result<TempDir, Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("overnight-rehearsal-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().map_err(|error| {
        Failure::error("cannot make a folder for the copy")
            .caused_by(&error)
            .hint(ELSEWHERE)
            .hint("`overnight rehearse --keep DIR` makes it in a folder of your choice")
    })
}

const ELSEWHERE: &str = "`TMPDIR=DIR overnight rehearse` makes the copy on another disk";

/// Makes the folder that is kept: a new one, or one that is empty.
fn make_kept(folder: &Path) -> Result<PathBuf, Failure> {
    let shown = folder.display();
    let cannot = |error: std::io::Error| {
        Failure::error(format!("cannot make the folder {shown}")).caused_by(&error)
    };
    let is_taken = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if is_taken {
        return Err(Failure::error(format!("{shown} is there and is not an empty folder"))
            .hint("`--keep DIR` names a new one"));
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(cannot)?;
    Ok(folder.to_owned())
}

/// Refuses to copy where there is no room: a disk that is full is in the way of more than a rehearsal. Returns the bytes
/// that the copy takes.
fn must_have_room(folder: &Path, context: &Context) -> Result<u64, Failure> {
    let of = |suffix: &str| {
        let mut name = context.project.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(PathBuf::from(name)).map_or(0, |meta| meta.len())
    };
    let needed = of("") + of("-wal");
    match free_bytes(folder) {
        Some(free) if free < needed + MARGIN_BYTES => Err(Failure::error(format!(
            "there is no room for the copy: it takes {}, and {} has {} left",
            size(needed),
            shell_word(&folder.display().to_string()),
            size(free)
        ))
        .hint(ELSEWHERE)),
        Some(_) | None => Ok(needed),
    }
}

/// Hears Ctrl-C and sees to it that nothing is left behind.
pub(super) struct Guard {
    watched: Arc<Watched>,
}

#[derive(Default)]
struct Watched {
    came: AtomicBool,
    folder: Mutex<Option<PathBuf>>,
    control: Mutex<Option<UnboundedSender<Control>>>,
}

impl Guard {
    /// Starts to listen; from here on a signal ends the process by way of this.
    pub(super) fn listen(out: Out) -> Result<Self, Failure> {
        let watched: Arc<Watched> = Arc::default();
        let heard = Arc::clone(&watched);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("overnight-signals".to_owned());
        let cannot = |error: &dyn std::error::Error| {
            Failure::error("cannot start the rehearsal").caused_by(error)
        };
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let done = runtime.and_then(|runtime| {
                runtime.block_on(async {
                    let signals = EndSignals::listen()?;
                    // Whoever waits for this is there until it comes.
                    let _ = ready.send(());
                    signals.wait().await;
                    heard.interrupt();
                    tokio::time::sleep(GRACE).await;
                    Ok(())
                })
            });
            if done.is_ok() {
                heard.clear();
                out.say("interrupted; the copy is removed, and nothing was sent");
                std::process::exit(Exit::Interrupted as i32);
            }
        };
        thread.spawn(work).map_err(|error| cannot(&error))?;
        is_ready.recv().map_err(|error| cannot(&error))?;
        Ok(Self { watched })
    }

    /// Says whether the person has had enough.
    pub(super) fn came(&self) -> bool {
        self.watched.came.load(Ordering::Relaxed)
    }

    /// Passes a signal on to a run.
    pub(super) fn pass_on(&self, control: UnboundedSender<Control>) {
        if self.came() {
            // Nobody listens only once the run has ended.
            let _ = control.send(Control::Interrupt);
        }
        *self.watched.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    }

    fn watch_over(&self, folder: &Path) {
        let mut watched = self.watched.folder.lock().unwrap_or_else(PoisonError::into_inner);
        *watched = Some(folder.to_owned());
    }
}

impl Watched {
    fn interrupt(&self) {
        self.came.store(true, Ordering::Relaxed);
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(control) = control.as_ref() {
            let _ = control.send(Control::Interrupt);
        }
    }

    /// Removes the folder. Whoever works in it may just be making a file, so it is tried more than once.
    fn clear(&self) {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(folder) = folder.as_ref() else { return };
        for _ in 0..10 {
            match std::fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
                Ok(()) | Err(_) => return,
            }
        }
    }
}
