//! The two locks of a data folder: one serialises starting and stopping, one counts the users.
//!
//! Both are held by the open file: the kernel lets go of them when a process dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{interval, timeout};

use super::Error;

/// A start can take a crash recovery, and a stop a checkpoint.
const WAIT: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(20);

/// A place among the users of a server.
#[derive(Debug)]
pub(super) struct Membership {
    file: File,
    path: PathBuf,
}

impl Membership {
    /// Gives the place up; what comes back, if this was the last user, keeps others out.
    ///
    /// Only to be called under the start lock: nobody may join between the question and the stop.
    pub(super) fn leave(self) -> Result<Option<File>, Error> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(self.file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", &self.path)(error)),
        }
    }
}

/// Waits until this process alone starts or stops the server of the folder.
pub(super) async fn exclusive(path: &Path) -> Result<File, Error> {
    let file = open(path).map_err(Error::file("open", path))?;
    // Polled: a blocking lock in a thread could not be given up when the caller goes away.
    let acquired = timeout(WAIT, async {
        let mut polls = interval(POLL);
        loop {
            polls.tick().await;
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    });
    match acquired.await {
        Ok(result) => result.map(|()| file).map_err(Error::file("lock", path)),
        Err(_elapsed) => Err(Error::Busy(path.to_owned())),
    }
}

/// Joins the users of the server; only under the start lock, where nobody can be leaving.
pub(super) fn join(path: &Path) -> Result<Membership, Error> {
    let file = open(path).map_err(Error::file("open", path))?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Membership { file, path: path.to_owned() }),
        Err(TryLockError::WouldBlock) => Err(Error::Busy(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(Error::file("lock", path)(error)),
    }
}

/// Opens for reading only, so that a file which root created can be locked by other accounts too.
fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => File::open(path),
    }
}
