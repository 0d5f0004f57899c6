//! Finding an installed Postgres: every place where systems put one, and why each will not do.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::account::Account;

/// The oldest major version that will do.
const MAJOR_MIN: u32 = 14;
const NEEDED: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// A folder, the beginning of the names to look at in it, and where the programs are below those.
struct Layout(&'static str, &'static str, &'static str);

/// Where package managers and installers put Postgres.
const LAYOUTS: [Layout; 10] = [
    Layout("usr/lib/postgresql", "", "bin"), // Debian, Ubuntu, PGDG
    Layout("usr", "pgsql-", "bin"),          // PGDG on Fedora, RHEL
    Layout("usr/libexec", "postgresql", ""), // Alpine
    Layout("usr/lib", "postgresql", "bin"),  // openSUSE
    Layout("opt/homebrew/opt", "postgresql", "bin"),
    Layout("usr/local/opt", "postgresql", "bin"), // Homebrew on Intel
    Layout("home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    Layout("Applications/Postgres.app/Contents/Versions", "", "bin"),
    Layout("Library/PostgreSQL", "", "bin"), // EDB on macOS
    Layout("opt/PostgreSQL", "", "bin"),     // EDB on Linux
];

/// A usable installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    bin: PathBuf,
    major: u32,
}

impl Programs {
    /// The path of one of the programs.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The major version.
    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// The folder of the programs.
    pub(super) fn bin(&self) -> &Path {
        &self.bin
    }
}

/// Where to look.
#[derive(Debug)]
pub(super) enum Places {
    /// In this folder and nowhere else.
    Only(PathBuf),
    /// In every known place below `root`, then along `path`.
    Known {
        /// `/`, save in tests.
        root: PathBuf,
        /// The folders of the variable PATH.
        path: Vec<PathBuf>,
    },
}

impl Places {
    /// One folder that somebody named.
    pub(super) fn only(bin: &Path) -> Self {
        Self::Only(bin.to_owned())
    }

    /// Every place on this system.
    pub(super) fn of_this_system() -> Self {
        let path: OsString = env::var_os("PATH").unwrap_or_default();
        Self::Known { root: PathBuf::from("/"), path: env::split_paths(&path).collect() }
    }
}

/// The newest usable installation, or the one of major version `wanted`, which made the data.
///
/// Each candidate is tried as the account that will run it.
pub(super) async fn find(
    places: &Places,
    wanted: Option<u32>,
    account: &Account,
) -> Result<Programs, Error> {
    let (candidates, mut misses) = candidates(places, account).await;
    let mut usable = Vec::new();
    let mut seen = BTreeSet::new();
    for bin in candidates {
        // The programs are run from another folder than the one this process stands in.
        let bin = std::path::absolute(&bin).unwrap_or(bin);
        if !seen.insert(bin.canonicalize().unwrap_or_else(|_| bin.clone())) {
            continue;
        }
        match examine(&bin, wanted, account).await {
            Ok(programs) => usable.push(programs),
            Err(reason) => misses.push(format!("{}: {reason}", bin.display())),
        }
    }
    let found = newest(usable).ok_or_else(|| Error::NotFound(report(&misses)))?;
    tracing::debug!(bin = %found.bin.display(), major = found.major, "found Postgres");
    Ok(found)
}

/// The highest major version; of equals, the one found first.
fn newest(usable: Vec<Programs>) -> Option<Programs> {
    usable.into_iter().rev().max_by_key(Programs::major)
}

/// The folders that may hold the programs, in order, and the places where there is none.
async fn candidates(places: &Places, account: &Account) -> (Vec<PathBuf>, Vec<String>) {
    let (root, path) = match places {
        Places::Only(bin) => return (vec![bin.clone()], Vec::new()),
        Places::Known { root, path } => (root, path),
    };
    let mut found = Vec::new();
    let mut misses = Vec::new();
    for layout in LAYOUTS {
        let folders = matches(root, &layout);
        if folders.is_empty() {
            misses.push(format!("{}: nothing there", pattern(root, &layout).display()));
        }
        found.extend(folders);
    }
    let known = found.len();
    for folder in path {
        if folder.join("postgres").is_file() {
            found.push(folder.clone());
        } else if folder.join("pg_config").is_file() {
            match account.run(&folder.join("pg_config"), ["--bindir"]).await {
                Ok(bin) => found.push(PathBuf::from(bin.trim())),
                Err(error) => misses.push(error.to_string()),
            }
        }
    }
    if found.len() == known {
        misses.push(format!("PATH: no postgres in its {} folders, nor pg_config", path.len()));
    }
    (found, misses)
}

/// The existing folders of a layout, sorted by name.
fn matches(root: &Path, Layout(parent, prefix, below): &Layout) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(parent)).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| joined(entry.path(), below))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders
}

fn pattern(root: &Path, Layout(parent, prefix, below): &Layout) -> PathBuf {
    joined(root.join(parent).join(format!("{prefix}*")), below)
}

/// Joining an empty path would end in a slash.
fn joined(folder: PathBuf, below: &str) -> PathBuf {
    if below.is_empty() { folder } else { folder.join(below) }
}

/// What is in a folder of programs, or why it will not do.
async fn examine(bin: &Path, wanted: Option<u32>, account: &Account) -> Result<Programs, String> {
    if let Some(missing) = NEEDED.iter().find(|name| !bin.join(name).is_file()) {
        return Err(format!("has no {missing}"));
    }
    let printed = account.run(&bin.join("postgres"), ["--version"]).await;
    let printed = printed.map_err(|error| error.reason)?;
    let Some(major) = major(&printed) else {
        return Err(format!("does not tell its version, but {:?}", printed.trim()));
    };
    suits(major, wanted)?;
    Ok(Programs { bin: bin.to_owned(), major })
}

fn suits(major: u32, wanted: Option<u32>) -> Result<(), String> {
    match wanted {
        Some(wanted) if wanted != major => {
            Err(format!("is version {major}, and the data folder was made by version {wanted}"))
        }
        _ if major < MAJOR_MIN => Err(format!("is version {major}, older than {MAJOR_MIN}")),
        _ => Ok(()),
    }
}

/// Reads the 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(printed: &str) -> Option<u32> {
    let (_, version) = printed.split_once("(PostgreSQL) ")?;
    leading_number(version)
}

/// The number that a text begins with.
pub(super) fn leading_number(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

fn report(misses: &[String]) -> String {
    let mut text = format!("no usable Postgres server ({MAJOR_MIN} or newer) was found. Tried:\n");
    for miss in misses {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {miss}");
    }
    text.push_str(
        "Any one of these helps:\n  \
         set DATABASE_URL to the address of a server that runs already\n  \
         apt-get install postgresql (Debian, Ubuntu)\n  \
         brew install postgresql (macOS)\n  \
         set AMENDS_PG_BIN to the folder that holds postgres, initdb and pg_ctl",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_spelling() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18.0\n"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("psql: something else\n"), None);
        assert_eq!(major("postgres (PostgreSQL) devel\n"), None);
    }

    #[test]
    fn data_is_served_by_the_major_version_that_made_it() {
        assert_eq!(suits(15, Some(15)), Ok(()));
        assert!(suits(18, Some(15)).is_err());
        assert_eq!(suits(18, None), Ok(()));
        assert!(suits(13, None).is_err());
    }

    #[test]
    fn the_newest_wins_and_of_equals_the_first() {
        let programs = |bin: &str, major| Programs { bin: PathBuf::from(bin), major };
        let found = newest(vec![programs("/a", 15), programs("/b", 17), programs("/c", 17)]);
        assert_eq!(found, Some(programs("/b", 17)));
    }

    #[test]
    fn a_layout_matches_the_folders_that_hold_programs_in_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["usr/pgsql-16/bin", "usr/pgsql-15/bin", "usr/pgsql-14", "usr/games/bin"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let found = matches(root.path(), &Layout("usr", "pgsql-", "bin"));
        assert_eq!(found, ["usr/pgsql-15/bin", "usr/pgsql-16/bin"].map(|it| root.path().join(it)));
    }

    #[tokio::test]
    async fn finding_nothing_names_every_place_and_the_ways_out() {
        let root = tempfile::tempdir().unwrap();
        let half = root.path().join("usr/lib/postgresql/15/bin");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join("postgres"), "").unwrap();
        let places = Places::Known { root: root.path().to_owned(), path: Vec::new() };
        let account = Account::for_data(None).await.unwrap();

        let text = find(&places, None, &account).await.unwrap_err().to_string();

        assert!(text.contains("usr/lib/postgresql/15/bin: has no initdb"), "{text}");
        for Layout(parent, ..) in &LAYOUTS[1..] {
            assert!(text.contains(parent), "{parent} in {text}");
        }
        for way_out in ["PATH:", "DATABASE_URL", "apt-get install", "brew install", "AMENDS_PG_BIN"]
        {
            assert!(text.contains(way_out), "{way_out} in {text}");
        }
    }
}
