//! Ends everything that was started, however this process ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

/// Waits until nobody holds the other end of its input any more. A number may be another process's
/// by then: who does not name the folder is left alone. Patroni goes first, since it would start
/// Postgres again; Postgres ends itself, which leaves no shared memory behind.
const GUARD: &str = r#"
    cat > /dev/null
    ours() {
        [ -r "/proc/$1/cmdline" ] || return 1
        cat "/proc/$1/cmdline" "/proc/$1/environ" 2> /dev/null | grep -qaF -- "$folder"
    }
    folder=$0
    for file in "$folder"/processes/*; do
        pid=${file##*/}
        if ours "$pid"; then kill -KILL "$pid"; fi
    done
    for file in "$folder"/*/data/postmaster.pid; do
        [ -r "$file" ] || continue
        read -r pid < "$file"
        ours "$pid" || continue
        kill -QUIT "$pid"
        for _ in $(seq 150); do ours "$pid" || break; sleep 0.1; done
        if ours "$pid"; then kill -KILL "$pid"; fi
    done
"#;

/// Who ends what is in a folder.
pub(crate) struct Guard {
    processes: PathBuf,
    shell: Child,
}

impl Guard {
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let processes = folder.join("processes");
        std::fs::create_dir(&processes)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", GUARD]).arg(folder).current_dir("/").process_group(0);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { processes, shell: shell.spawn().context("a shell can be started")? })
    }

    /// Has this process end with this one. It names the folder in its arguments or environment.
    pub(crate) fn watch(&self, process: Option<u32>) -> anyhow::Result<()> {
        let process = process.context("it has ended already")?;
        Ok(std::fs::write(self.processes.join(process.to_string()), "")?)
    }

    /// Ends everything.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.shell.stdin.take());
        self.shell.wait().await?;
        Ok(())
    }
}

/// Sends a signal to processes. Those that have ended meanwhile are no reason to fail.
pub(crate) async fn signal(name: &str, processes: &[u32]) -> anyhow::Result<()> {
    let processes: Vec<_> = processes.iter().map(u32::to_string).collect();
    let kill = format!("kill -{name} {}", processes.join(" "));
    Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().await?;
    Ok(())
}

/// The processes that a process has started.
pub(crate) async fn children(process: u32) -> anyhow::Result<Vec<u32>> {
    let output = Command::new("pgrep").args(["-P", &process.to_string()]).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| Ok(line.trim().parse()?)).collect()
}
