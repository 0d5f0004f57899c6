//! The account that runs Postgres's programs, which refuse to run as root.
//!
//! An ordinary user runs them as they are; root drops to another account in the child process.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Error;

const ROOT: u32 = 0;
const PASSWD: &str = "/etc/passwd";
/// The accounts root falls back on for new data, in order.
const FALLBACKS: [&str; 2] = ["postgres", "nobody"];
/// No program run to its end (initdb, pg_ctl stop, --version) takes that long.
const RUN: Duration = Duration::from_mins(3);

/// The account that the server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    name: String,
    /// The group to take on with the account; only root changes, and only in child processes.
    change_gid: Option<u32>,
}

/// A program of Postgres did not do what it was run for.
#[derive(Debug, thiserror::Error)]
#[error("{} failed: {reason}", program.display())]
pub struct ProgramFailed {
    /// The program.
    pub program: PathBuf,
    /// What it said, or how it ended.
    pub reason: String,
}

impl Account {
    /// The account for a data folder; `data_owner` is the owner of the data if there is any.
    pub(super) async fn for_data(data_owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let uid = effective_uid().await?;
        match data_owner {
            Some((ROOT, _)) if uid == ROOT => Err(Error::Account(
                "the data folder belongs to root, as which Postgres does not run: \
                 give it to an ordinary account (chown -R)"
                    .to_owned(),
            )),
            Some((owner, gid)) if uid == ROOT => {
                Ok(Self { uid: owner, name: name_of(owner), change_gid: Some(gid) })
            }
            None if uid == ROOT => fallback(),
            Some((owner, _)) if uid != owner => Err(Error::Account(format!(
                "the data folder belongs to {} and this process runs as {}: \
                 run as that account or use another data folder",
                name_of(owner),
                name_of(uid)
            ))),
            Some(_) | None => Ok(Self::unchanged(uid)),
        }
    }

    fn unchanged(uid: u32) -> Self {
        Self { uid, name: name_of(uid), change_gid: None }
    }

    /// The name in /etc/passwd, or the number.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The number of the account.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// What root's child processes change to, and its folders must belong to: user and group.
    pub(super) fn change(&self) -> Option<(u32, u32)> {
        self.change_gid.map(|gid| (self.uid, gid))
    }

    /// A command that runs as this account, quietly and in English.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The account may not be allowed into the folder this process stands in.
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        // These would change the server's defaults behind our back.
        command.env_remove("PGDATESTYLE").env_remove("PGCLIENTENCODING");
        if let Some((uid, gid)) = self.change() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a program to its end as this account; what it printed.
    pub(super) async fn run<A>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, ProgramFailed>
    where
        A: AsRef<OsStr>,
    {
        let failed = |reason| ProgramFailed { program: program.to_owned(), reason };
        let mut command = self.command(program);
        let running = command.args(arguments).kill_on_drop(true).output();
        let output = match timeout(RUN, running).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_elapsed) => return Err(failed(format!("not done after {RUN:?}"))),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("{} ({})", said.trim(), output.status)))
    }

    /// Whether this account may walk all the way into a folder.
    pub(super) async fn can_enter(&self, folder: &Path) -> bool {
        // Asked of the kernel in the account's own name: mode bits alone do not tell (ACLs, groups).
        let arguments = [OsStr::new("-c"), OsStr::new("test -x \"$0\""), folder.as_os_str()];
        self.run(Path::new("/bin/sh"), arguments).await.is_ok()
    }
}

/// The uid this process acts as; std has no call for it, and forbidding `unsafe` leaves `id`.
async fn effective_uid() -> Result<u32, Error> {
    let program = PathBuf::from("id");
    let text = Account::unchanged(ROOT).run(&program, ["-u"]).await?;
    let parsed = text.trim().parse();
    parsed.map_err(|_| Error::Program(ProgramFailed { program, reason: text }))
}

fn fallback() -> Result<Account, Error> {
    for wanted in FALLBACKS {
        if let Some(Entry { name, uid, gid }) = find(|entry| entry.name == wanted)? {
            return Ok(Account { uid, name, change_gid: Some(gid) });
        }
    }
    Err(Error::Account(format!(
        "Postgres does not run as root, and {PASSWD} has none of the accounts {}: \
         run as an ordinary user",
        FALLBACKS.join(", ")
    )))
}

/// A line of /etc/passwd.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

/// The name of an account, or its number where /etc/passwd does not know it (macOS, containers).
fn name_of(uid: u32) -> String {
    match find(|entry| entry.uid == uid) {
        Ok(Some(entry)) => entry.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

fn find(wanted: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, Error> {
    let path = Path::new(PASSWD);
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(text.lines().filter_map(entry).find(wanted))
}

fn entry(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Entry { name, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwd_gives_name_and_both_numbers() {
        let found =
            entry("postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash");
        assert_eq!(found, Some(Entry { name: "postgres".into(), uid: 101, gid: 104 }));
    }

    #[test]
    fn comments_and_negative_numbers_are_passed_over() {
        assert_eq!(entry("# User Database"), None);
        assert_eq!(entry("nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false"), None);
    }
}
