//! The account that the database runs as: Postgres refuses to run as an administrator.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

/// Who it is where this process is an administrator.
const POSTGRES: &str = "postgres";

/// An ordinary account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// What child processes change to: user and group.
    change: Option<(u32, u32)>,
}

impl Account {
    /// This process's own, unless that is an administrator's.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        if id(&["-u"]).await? != 0 {
            return Ok(Self { change: None });
        }
        let user = id(&["-u", POSTGRES]).await?;
        Ok(Self { change: Some((user, id(&["-g", POSTGRES]).await?)) })
    }

    /// A folder that only this account uses.
    pub(crate) fn make_folder(self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        if let Some((user, group)) = self.change {
            chown(folder, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// A program as this account, in a group of its own. It writes what it says to a file.
    pub(crate) fn command(self, program: &str, log: &Path) -> anyhow::Result<Command> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.current_dir("/").env("PATH", path()).env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.process_group(0).kill_on_drop(true);
        if let Some((user, group)) = self.change {
            command.uid(user).gid(group);
        }
        Ok(command)
    }

    /// Fails unless this account can get into a folder.
    pub(crate) async fn check_entry(self, folder: &Path) -> anyhow::Result<()> {
        let mut test = Command::new("sh");
        test.args(["-c", "test -x \"$0\""]).arg(folder);
        if let Some((user, group)) = self.change {
            test.uid(user).gid(group);
        }
        let can = test.status().await?.success();
        let folder = folder.display();
        ensure!(can, "the account of Postgres cannot get into {folder}: set AMENDS_TEST_DATA");
        Ok(())
    }
}

/// Where the programs of Postgres are: where the caller says, else the newest ones of the system.
pub(crate) fn postgres_programs() -> anyhow::Result<PathBuf> {
    if let Some(bin) = amends_tests::cluster::bin_dir() {
        return Ok(bin);
    }
    let majors = std::fs::read_dir("/usr/lib/postgresql").context("no Postgres is installed")?;
    let majors = majors.filter_map(|it| it.ok()?.file_name().into_string().ok()?.parse().ok());
    let newest: u32 = majors.max().context("no Postgres is installed")?;
    Ok(format!("/usr/lib/postgresql/{newest}/bin").into())
}

/// Debian keeps HAProxy where only an administrator looks.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned()))
}

async fn id(arguments: &[&str]) -> anyhow::Result<u32> {
    let output = Command::new("id").args(arguments).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("id {arguments:?} says {text:?}"))
}
