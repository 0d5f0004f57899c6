//! The data folder: what lies where in it, who owns it, and the short way to its socket.
//!
//! The folder itself stays with whoever made it; only `data` and `socket` belong to the account
//! that runs the server, so root never writes where that account could lay a trap.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::{Error, connection, locate};

/// Where new data goes that root's substitute account could not reach at the wanted place.
const SUBSTITUTE: &str = "/var/lib/amends";
/// Unix sockets end at 107 bytes on Linux and 103 on macOS; this leaves room.
const SOCKET_BYTES_MAX: usize = 80;

/// A data folder that is ready for use.
#[derive(Debug)]
pub(super) struct Folder {
    home: PathBuf,
    socket: PathBuf,
}

impl Folder {
    /// The database cluster; there is one as soon as this exists, because it is renamed into place.
    pub(super) fn data(&self) -> PathBuf {
        data(&self.home)
    }

    /// Where a new cluster is made before it is complete.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.home.join(format!("unfinished.{}", std::process::id()))
    }

    /// What earlier runs left unfinished.
    pub(super) fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.home)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("unfinished.") {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// The folder itself.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The folder of the Unix socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the server writes; it belongs to the server's account, as does the folder it is in.
    pub(super) fn log(&self) -> PathBuf {
        self.data().join("server.log")
    }

    /// Held while starting or stopping.
    pub(super) fn start_lock(&self) -> PathBuf {
        self.home.join("start.lock")
    }

    /// Held, shared, while using the server.
    pub(super) fn users_lock(&self) -> PathBuf {
        self.home.join("users.lock")
    }

    /// Whether there is a cluster.
    pub(super) fn has_cluster(&self) -> bool {
        self.data().is_dir()
    }

    /// The process id of the server that has, or had when it was killed, the cluster open.
    pub(super) fn claimant(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        locate::leading_number(&text)
    }

    /// The major version that made the cluster; `None` when there is no cluster.
    pub(super) fn major(&self) -> Result<Option<u32>, Error> {
        if !self.has_cluster() {
            return Ok(None);
        }
        let path = self.data().join("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let unreadable = || io::Error::other(format!("not a version: {text:?}"));
        let major = locate::leading_number(&text).ok_or_else(unreadable);
        major.map(Some).map_err(Error::file("understand", &path))
    }
}

/// Decides where the data lives and who runs the server on it, and makes the folders.
pub(super) async fn prepare(wanted: &Path) -> Result<(Folder, Account), Error> {
    let wanted = std::path::absolute(wanted).map_err(Error::file("find", wanted))?;
    let account = Account::for_data(owner(&data(&wanted))?).await?;
    let (home, account) = if account.change().is_some() {
        settle_as_root(wanted, account).await?
    } else {
        fs::create_dir_all(&wanted).map_err(Error::file("create", &wanted))?;
        (wanted, account)
    };
    let home = home.canonicalize().map_err(Error::file("find", &home))?;
    let socket = socket_folder(&home)?;
    make_private(&socket, &account)?;
    Ok((Folder { home, socket }, account))
}

/// Data that exists stays where it is; new data goes where the account can reach it.
async fn settle_as_root(wanted: PathBuf, account: Account) -> Result<(PathBuf, Account), Error> {
    if data(&wanted).is_dir() {
        return Ok((wanted, account));
    }
    let substitute = substitute(&wanted);
    if let Some(owner) = owner(&data(&substitute))? {
        tracing::info!(folder = %substitute.display(), "the data lives outside the project");
        return Ok((substitute, Account::for_data(Some(owner)).await?));
    }
    let existing = wanted.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    if account.can_enter(existing).await {
        create_walkable(&wanted)?;
        return Ok((wanted, account));
    }
    tracing::info!(
        account = account.name(),
        wanted = %wanted.display(),
        folder = %substitute.display(),
        "the account that runs Postgres cannot reach the wanted folder: the data goes elsewhere"
    );
    create_walkable(&substitute)?;
    Ok((substitute, account))
}

/// One folder per wanted place: two projects, or a test cluster and a demo, never share data.
fn substitute(wanted: &Path) -> PathBuf {
    let flat = wanted.to_string_lossy().trim_matches('/').replace('/', "+");
    Path::new(SUBSTITUTE).join(flat)
}

fn data(home: &Path) -> PathBuf {
    home.join("data")
}

/// The owner and group of a folder, if it exists.
fn owner(folder: &Path) -> Result<Option<(u32, u32)>, Error> {
    match fs::metadata(folder) {
        Ok(found) => Ok(Some((found.uid(), found.gid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("examine", folder)(error)),
    }
}

/// Creates what is missing of a path so that any account can walk it, whatever root's umask.
fn create_walkable(path: &Path) -> Result<(), Error> {
    let missing: Vec<_> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Another process of ours was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(Error::file("create", folder))?,
        }
        let walkable = Permissions::from_mode(0o755);
        fs::set_permissions(folder, walkable).map_err(Error::file("open up", folder))?;
    }
    Ok(())
}

/// Inside the data folder, or where that path is too long, a name under /tmp that follows the
/// data folder when it is renamed.
fn socket_folder(home: &Path) -> Result<PathBuf, Error> {
    let inside = home.join("socket");
    if fits(&inside) {
        return Ok(inside);
    }
    let found = fs::metadata(home).map_err(Error::file("examine", home))?;
    Ok(PathBuf::from(format!("/tmp/amends-{:x}-{:x}", found.dev(), found.ino())))
}

/// Whether a socket in this folder has a path that every system, and a URL, can hold.
fn fits(folder: &Path) -> bool {
    connection::socket_file(folder).to_str().is_some_and(|path| path.len() <= SOCKET_BYTES_MAX)
}

/// Creates a folder that only the account (and root) can enter, or checks that it is one.
///
/// The check matters under /tmp, where anybody may have put something else there.
pub(super) fn make_private(folder: &Path, account: &Account) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result.map_err(Error::file("create", folder))?,
    }
    let examine = || fs::symlink_metadata(folder).map_err(Error::file("examine", folder));
    if let Some((uid, gid)) = account.change()
        && examine()?.uid() == 0
    {
        lchown(folder, Some(uid), Some(gid)).map_err(Error::file("change the owner of", folder))?;
    }
    let found = examine()?;
    if found.is_dir() && found.uid() == account.uid() && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::Account(format!(
        "{} must be a folder that belongs to {} and is closed to others (mode 0700)",
        folder.display(),
        account.name()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_holds_the_socket() {
        assert!(fits(Path::new("/home/someone/shop/.amends/postgres/socket")));
    }

    #[test]
    fn a_path_beyond_the_limit_does_not_hold_the_socket() {
        let file_bytes = "/.s.PGSQL.5432".len();
        let longest = format!("/{}", "x".repeat(SOCKET_BYTES_MAX - file_bytes - 1));
        assert!(fits(Path::new(&longest)));
        assert!(!fits(Path::new(&format!("{longest}x"))));
    }

    #[test]
    fn two_places_never_share_a_substitute() {
        let demo = substitute(Path::new("/home/someone/shop/.amends"));
        assert_eq!(demo, Path::new("/var/lib/amends/home+someone+shop+.amends"));
        assert_ne!(demo, substitute(Path::new("/home/someone/other/.amends")));
    }
}
