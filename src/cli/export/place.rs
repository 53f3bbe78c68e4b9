//! Where an export goes: a file that is there once it is whole, and not before.
//!
//! It is written beside its place, brought to the disk and renamed into it, so that whoever reads
//! the old file reads all of it and nobody ever reads half of the new one. What is no regular file
//! (a pipe, a device) cannot be replaced and is written to as it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::store::stop_point::{self, Point};

/// A file on its way to its place. Dropped without [`Place::put`], it leaves no trace.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    out: Out,
}

#[derive(Debug)]
enum Out {
    Beside { temp: NamedTempFile, target: PathBuf },
    Straight(File),
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// There is a folder in its place.
    #[error("{} is a folder", path.display())]
    IsFolder {
        /// The place.
        path: PathBuf,
    },
    /// Its folder is not there.
    #[error("cannot write {}: there is no folder {}", path.display(), folder.display())]
    NoFolder {
        /// The place.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// What should be its folder is a file.
    #[error("cannot write {}: {} is no folder", path.display(), folder.display())]
    NotAFolder {
        /// The place.
        path: PathBuf,
        /// What is no folder.
        folder: PathBuf,
    },
    /// The file that is there may not be changed.
    #[error("{} is there and is read-only", path.display())]
    ReadOnly {
        /// The place.
        path: PathBuf,
    },
    /// The disk is full, or the person's share of it.
    #[error("cannot write {}: the disk is full", path.display())]
    Full {
        /// The place.
        path: PathBuf,
    },
    /// The system will not have it.
    #[error("cannot write {}", path.display())]
    Io {
        /// The place.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl PlaceError {
    /// Names an error of writing after the file.
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}

impl Place {
    /// Gets ready to write a file.
    pub(crate) fn take(path: &Path) -> Result<Self, PlaceError> {
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(Metadata::is_dir) {
            return Err(PlaceError::IsFolder { path: path.to_owned() });
        }
        let out = match there {
            Some(there) if !there.is_file() => {
                OpenOptions::new().write(true).open(path).map(Out::Straight)
            }
            Some(there) if there.permissions().readonly() => {
                return Err(PlaceError::ReadOnly { path: path.to_owned() });
            }
            // A link stays a link: what it points to is replaced.
            Some(there) => fs::canonicalize(path).and_then(|target| beside(target, Some(&there))),
            None => beside(path.to_owned(), None),
        };
        match out {
            Ok(out) => Ok(Self { path: path.to_owned(), out }),
            Err(source) => {
                let folder = folder(path);
                let path = path.to_owned();
                Err(match (folder.is_dir(), folder.exists()) {
                    (true, _) => PlaceError::new(&path, of_the_system(source)),
                    (false, true) => PlaceError::NotAFolder { path, folder },
                    (false, false) => PlaceError::NoFolder { path, folder },
                })
            }
        }
    }

    /// Says whether nothing is seen of the file before it is put.
    pub(crate) fn is_replacing(&self) -> bool {
        matches!(self.out, Out::Beside { .. })
    }

    /// Puts the whole file into its place, on the disk.
    pub(crate) fn put(self) -> Result<(), PlaceError> {
        let Self { path, out } = self;
        stop_point::pass(Point::BeforeMove);
        let put = match out {
            Out::Straight(_) => Ok(()),
            Out::Beside { temp, target } => temp
                .as_file()
                .sync_all()
                .and_then(|()| temp.persist(&target).map_err(|error| error.error))
                .map(|_| sync_folder(&folder(&target))),
        };
        stop_point::pass(Point::AfterMove);
        put.map_err(|source| PlaceError::new(&path, source))
    }
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Beside { temp, .. } => temp.as_file_mut().write(bytes),
            Out::Straight(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Beside { temp, .. } => temp.as_file_mut().flush(),
            Out::Straight(file) => file.flush(),
        }
    }
}

/// Says whether two paths lead to one file, or would if it were there.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    resolved(a) == resolved(b) || is_one_file(a, b)
}

fn beside(target: PathBuf, replaced: Option<&Metadata>) -> io::Result<Out> {
    let mut builder = Builder::new();
    builder.prefix(".overnight-").suffix(".part");
    // As any new file has; the process's own mask takes away from it.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temp = builder.tempfile_in(folder(&target))?;
    if let Some(replaced) = replaced {
        temp.as_file().set_permissions(replaced.permissions())?;
    }
    Ok(Out::Beside { temp, target })
}

/// Takes the name of the file beside away, of which nobody but us has heard.
fn of_the_system(error: io::Error) -> io::Error {
    let words = error.to_string();
    match words.split_once(" at path ") {
        Some((what, _)) => io::Error::new(error.kind(), what.to_owned()),
        None => error,
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

/// Brings the new name to the disk, where the file system knows of such a thing.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        // The file is whole and in its place; after a power cut it would at worst be the old one.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| {
        let name = path.file_name().unwrap_or_default();
        fs::canonicalize(folder(path)).map_or_else(|_| path.to_owned(), |at| at.join(name))
    })
}

#[cfg(unix)]
fn is_one_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_one_file(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> Result<(), PlaceError> {
        let mut place = Place::take(path)?;
        place.write_all(text.as_bytes()).map_err(|error| PlaceError::new(path, error))?;
        place.put()
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_only_by_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        write(&path, "old").unwrap();
        let mut half = Place::take(&path).unwrap();
        half.write_all(b"ne").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(half);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(dir.path())), ("old", 1));
        write(&path, "new").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(dir.path())), ("new", 1));
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = write(dir.path(), "").unwrap_err();
        assert!(matches!(folder, PlaceError::IsFolder { .. }), "{folder}");
        let nowhere = write(&dir.path().join("none/a.csv"), "").unwrap_err();
        assert!(nowhere.to_string().ends_with("none"), "{nowhere}");
        fs::write(dir.path().join("file"), "").unwrap();
        let below = write(&dir.path().join("file/a.csv"), "").unwrap_err();
        assert!(below.to_string().ends_with("file is no folder"), "{below}");
        fs::remove_file(dir.path().join("file")).unwrap();
        let path = dir.path().join("locked.csv");
        fs::write(&path, "mine").unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        assert!(matches!(write(&path, ""), Err(PlaceError::ReadOnly { .. })));
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(dir.path())), ("mine", 1));
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_new_file_or_of_the_old_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode =
            |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        File::create(dir.path().join("plain")).unwrap();
        write(&dir.path().join("new"), "").unwrap();
        assert_eq!(mode("new"), mode("plain"));
        fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o640)).unwrap();
        write(&dir.path().join("new"), "again").unwrap();
        assert_eq!(mode("new"), 0o640);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_its_target_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (there, link) = (dir.path().join("there.csv"), dir.path().join("link.csv"));
        fs::write(&there, "old").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        write(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&there).unwrap(), "new");
        assert!(same_file(&there, &link));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let full = write(Path::new("/dev/full"), "no room").unwrap_err();
        assert_eq!(full.to_string(), "cannot write /dev/full: the disk is full");
    }

    #[test]
    fn one_file_is_known_by_any_path_even_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let round = dir.path().join("x/../a.db");
        fs::create_dir(dir.path().join("x")).unwrap();
        assert!(same_file(&path, &round));
        fs::write(&path, "").unwrap();
        assert!(same_file(&path, &round));
        fs::hard_link(&path, dir.path().join("b.db")).unwrap();
        assert_eq!(same_file(&path, &dir.path().join("b.db")), cfg!(unix));
        assert!(!same_file(&path, &dir.path().join("c.db")));
    }
}
