//! What processors have done for whom, as `/proc` has it. Where there is none, nothing is known.

use std::fs;
use std::time::Duration;

/// `/proc` counts in hundredths of a second, on every machine that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// A process, as its line in `/proc` tells it.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    name: String,
    parent: u32,
    /// Its own time, of all its threads.
    own: Duration,
    /// The time of its children that have ended.
    ended: Duration,
}

impl Process {
    fn of(pid: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name is in brackets and may hold anything, brackets too.
    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok().map(|ticks| TICK * ticks);
        Some(Self {
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            ended: ticks(13)? + ticks(14)?,
        })
    }
}

/// The time that processors have spent on this process.
pub(super) fn of_this_process() -> Option<Duration> {
    Process::of("self").map(|it| it.own)
}

/// The first process of a Postgres server on this machine, parent of all the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postmaster(u32);

impl Postmaster {
    /// The one whose session has this process id.
    pub(super) fn of_session(pid: i32) -> Option<Self> {
        let session = Process::of(&pid.to_string())?;
        let parent = Process::of(&session.parent.to_string())?;
        let are_postgres = [&session, &parent].iter().all(|it| it.name.starts_with("postgres"));
        are_postgres.then_some(Self(session.parent))
    }

    /// The time that processors have spent on the server, sessions that have ended included.
    pub(super) fn spent(self) -> Option<Duration> {
        let mut children = Duration::ZERO;
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().filter(|it| it.bytes().all(|it| it.is_ascii_digit()))
            else {
                continue;
            };
            children += Process::of(pid)
                .filter(|process| process.parent == self.0)
                .map_or(Duration::ZERO, |process| process.own);
        }
        let own = Process::of(&self.0.to_string())?;
        Some(children + own.own + own.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_tells_the_parent_and_four_times() {
        let line = "4242 (postgres: a) (b)) S 17 4242 4242 0 -1 4194624 900 80 0 0 \
                    123 45 6 7 20 0 1 0 5000 200000000 4000 18446744073709551615";
        let process = Process::parse(line).unwrap();
        let milliseconds = Duration::from_millis;
        assert_eq!((process.name.as_str(), process.parent), ("postgres: a) (b)", 17));
        assert_eq!((process.own, process.ended), (milliseconds(1680), milliseconds(130)));
    }

    #[test]
    fn what_is_cut_off_tells_nothing() {
        for line in ["", "1 (a", "1 (a) S 1", "1 (a) S x 1 1 0 0 0 0 0 0 0 1 1 1 1"] {
            assert_eq!(Process::parse(line), None, "{line}");
        }
    }
}
