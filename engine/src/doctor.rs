//! Whether a database, and those who use it, can be relied on: each finding says what it means and
//! what to do. Reads only.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::clock::Clock;
use crate::clock_offset::ClockOffset;
use crate::error::Error;
use crate::limits::CLOCK_OFFSET_MAX;
use crate::loss::Loss;
use crate::store::examine::{self, Settings, Unclaimable, Waiting, Workers};
use crate::store::replication::{self, Replication};
use crate::store::{Address, Purpose, Store, loss, migrations};

/// The oldest Postgres that is used.
const VERSION_MIN: i32 = 14;
/// What one server opens, and a few more: see the runbook.
const SESSIONS_PER_SERVER: i64 = 35;
/// How old the oldest snapshot may be: what has ended since is walked past by every scan.
const SNAPSHOT_SECONDS_MAX: f64 = 600.0;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It works, and somebody should know.
    Note,
    /// Something is not done, or may be lost.
    Problem,
}

impl Severity {
    /// As machines are told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: a stable name.
    pub about: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in plain words.
    pub found: String,
    /// What to do about it; empty where nothing is to be done.
    pub advice: &'static str,
}

impl Finding {
    fn fine(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, severity: Severity::Fine, found: found.into(), advice: "" }
    }

    fn note(about: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { about, severity: Severity::Note, found: found.into(), advice }
    }

    fn problem(about: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { about, severity: Severity::Problem, found: found.into(), advice }
    }
}

/// Looks at everything. A database that will not do is a finding, and ends the examination; one that
/// does not answer is an error.
pub async fn examine(address: impl Into<Address>) -> Result<Vec<Finding>, Error> {
    look(&Store::new(address), "this machine's").await
}

/// The same through this store, from a machine that is called so.
pub(crate) async fn look(store: &Store, whose: &str) -> Result<Vec<Finding>, Error> {
    match store.refuse_unfit().await {
        Err(Error::UnsafeDatabase(why)) => {
            let advice = "no server starts on it; the runbook says what to do, under \"The server does not start\"";
            return Ok(vec![Finding::problem("database", format!("it {why}"), advice)]);
        }
        answered => answered?,
    }
    let mut connection = store.connect(Purpose::Reading).await?;
    let mut findings = vec![Finding::fine("database", "sessions are as the engine needs them")];
    let missing = migrations::missing(&mut connection).await?;
    findings.push(schema(&missing));
    if missing.is_empty() {
        findings.extend(look_inside(&mut connection, whose).await?);
    }
    connection.close().await?;
    Ok(findings)
}

async fn look_inside(connection: &mut PgConnection, whose: &str) -> Result<Vec<Finding>, Error> {
    let asked = Clock::system().now();
    let settings = examine::settings(connection).await?;
    let offset = ClockOffset::measured(asked, Clock::system().now(), settings.now);
    let workers = examine::workers(connection).await?;
    let mut findings = about_database(&settings, clock(whose, offset));
    findings.push(durability(&replication::replication(connection).await?));
    findings.push(losses(&loss::unacknowledged(connection).await?));
    findings.push(objects(&examine::broken_objects(connection).await?));
    findings.extend(about_workers(&workers));
    findings.push(due(&examine::unclaimable(connection).await?));
    findings.extend(about_people(&examine::waiting(connection).await?));
    Ok(findings)
}

/// What a server says of itself.
pub(crate) fn server(ready: Result<(), Error>) -> Finding {
    let release = env!("CARGO_PKG_VERSION");
    let why = match ready {
        Ok(()) => return Finding::fine("server", format!("release {release}, ready")),
        Err(Error::Stalled(why)) => why,
        Err(Error::Database(_)) => "the database does not answer".to_owned(),
        Err(error) => error.to_string(),
    };
    Finding::problem(
        "server",
        format!("release {release}, not ready: {why}"),
        "its log says more; the runbook says what to do, under \"Answers of the API\"",
    )
}

/// A database that a server cannot look at.
pub(crate) fn unanswered() -> Finding {
    Finding::problem(
        "database",
        "the server cannot look at it",
        "the server's log says why; the runbook says what to do, under \"The database is down\"",
    )
}

/// How far the clock of a machine that is called so is from the database's.
pub(crate) fn clock(whose: &str, offset: ClockOffset) -> Finding {
    let clock = offset.in_words(whose);
    if offset.ahead.abs() > CLOCK_OFFSET_MAX {
        Finding::problem("clock", clock, "have both keep time (NTP): deadlines follow them")
    } else {
        Finding::fine("clock", clock)
    }
}

fn schema(missing: &[i64]) -> Finding {
    match missing {
        [] => Finding::fine("schema", "every migration of this build is applied"),
        missing => Finding::problem(
            "schema",
            format!("the migrations {missing:?} of this build are not applied"),
            "run `amends migrate` as the owner of the schema",
        ),
    }
}

fn about_database(settings: &Settings, clock: Finding) -> Vec<Finding> {
    let version = format!("Postgres {}", settings.version);
    let sessions = format!("{} more sessions may be opened", settings.sessions_left);
    let age = format!("the oldest snapshot is {:.0} s old", settings.oldest_snapshot_seconds);
    vec![
        if settings.version < VERSION_MIN {
            Finding::problem("version", version, "use 14 or newer")
        } else {
            Finding::fine("version", version)
        },
        clock,
        if settings.sessions_left < SESSIONS_PER_SERVER {
            Finding::problem(
                "connections",
                sessions,
                "raise max_connections: a server opens up to 35",
            )
        } else {
            Finding::fine("connections", sessions)
        },
        if settings.oldest_snapshot_seconds > SNAPSHOT_SECONDS_MAX {
            Finding::problem(
                "snapshots",
                age,
                "end the session that holds it (pg_stat_activity, by backend_xmin): everything slows down",
            )
        } else {
            Finding::fine("snapshots", age)
        },
        if settings.autovacuum {
            Finding::fine("autovacuum", "it is on")
        } else {
            Finding::problem("autovacuum", "it is off", "switch it on: tables grow without end")
        },
        rights(settings),
    ]
}

fn durability(replication: &Replication) -> Finding {
    match (replication.copies(), replication.missing()) {
        (1, _) => Finding::note(
            "durability",
            "an acknowledged order is on this server's disk alone: 1 copy",
            "if losing the disk must not lose orders: a synchronous standby (synchronous_standby_names), \
             and servers with --durability replicated",
        ),
        (_, Some(why)) => Finding::problem(
            "durability",
            why,
            "bring the standby back: until then nothing is accepted",
        ),
        (copies, None) => Finding::fine(
            "durability",
            format!("an acknowledged order is on {copies} machines: {copies} copies"),
        ),
    }
}

fn losses(losses: &[Loss]) -> Finding {
    let Some(first) = losses.first() else {
        return Finding::fine(
            "losses",
            "no server has found anything missing that was acknowledged",
        );
    };
    Finding::problem(
        "losses",
        format!(
            "since {} the database lacks what it had acknowledged: {}{}. Found by {}",
            at(first.found_at),
            first.lost,
            match losses.len() {
                1 => String::new(),
                more => format!(" and {} more", more - 1),
            },
            first.found_by,
        ),
        "the runbook says what to do, under \"Commits are lost\"; `amends acknowledge-loss` lets orders in again",
    )
}

fn rights(settings: &Settings) -> Finding {
    let who = match (settings.is_superuser, settings.owns_schema) {
        (true, _) => "a superuser",
        (false, true) => "the owner of the schema",
        (false, false) => {
            let found = "this role can neither change nor delete what is append-only";
            return Finding::fine("rights", found);
        }
    };
    Finding::note(
        "rights",
        format!("this role is {who}, and could change what is append-only"),
        "let servers run as another role: `amends migrate --grant <role>`",
    )
}

fn objects(broken: &[String]) -> Finding {
    match broken {
        [] => Finding::fine("objects", "all triggers are on, all indexes are whole"),
        broken => Finding::problem(
            "objects",
            format!("switched off or not finished: {}", broken.join(", ")),
            "find out who switched a trigger off, and run `amends verify`; `amends migrate` finishes indexes when one is missing",
        ),
    }
}

fn about_workers(workers: &Workers) -> Vec<Finding> {
    let Workers { live, forgotten, orphans } = *workers;
    let at_work = match live {
        0 => Finding::problem("workers", "no server is at work", "start one"),
        live => Finding::fine("workers", format!("{live} at work")),
    };
    let take_over = match (forgotten, orphans) {
        (0, 0) => Finding::fine("take-over", "nobody holds anything who is not there"),
        (forgotten, orphans) => Finding::problem(
            "take-over",
            format!(
                "{forgotten} workers have been dead for half a minute without being taken over, \
                 and {orphans} instances are held by workers that are not there"
            ),
            "servers do it by themselves within seconds; if none does, look at their logs",
        ),
    };
    vec![at_work, take_over]
}

fn due(unclaimable: &[Unclaimable]) -> Finding {
    let Some(first) = unclaimable.first() else {
        return Finding::fine("due", "somebody can run everything that is due");
    };
    let of = |it: &Unclaimable| format!("{} of {} version {}", it.count, it.workflow, it.version);
    let all: Vec<_> = unclaimable.iter().map(of).collect();
    Finding::problem(
        "due",
        format!("due since {}, and no live server can run it: {}", at(first.since), all.join(", ")),
        "start a build that has these versions (`amends workflows`)",
    )
}

fn at(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn about_people(waiting: &Waiting) -> Vec<Finding> {
    let counts = BTreeMap::from([
        ("cases", (waiting.cases, "deliveries wait for a decision", "`amends intake list`")),
        (
            "events",
            (waiting.parked_keys, "keys of events wait for a person", "`amends events blocked`"),
        ),
        (
            "leftovers",
            (
                waiting.leftovers,
                "events wait for subscriptions that no server has",
                "`amends events leftovers`",
            ),
        ),
        ("stuck", (waiting.stuck, "instances are stuck", "`amends instances list --status stuck`")),
    ]);
    let finding = |(about, (count, what, advice)): (&'static str, (i64, &str, &'static str))| {
        let found = format!("{count} {what}");
        if count == 0 { Finding::fine(about, found) } else { Finding::note(about, found, advice) }
    };
    counts.into_iter().map(finding).collect()
}
