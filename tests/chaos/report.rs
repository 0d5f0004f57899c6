//! What a run comes to, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::checker::{Coverage, Evidence, Violation, coverage, violations};
use crate::saboteur::Broken;
use crate::schedule::{SERVERS, Schedule};
use crate::watch::Watch;

/// So many violations are shown of each invariant.
const SHOWN: usize = 5;

/// Exit codes.
pub(crate) const CLEAN: u8 = 0;
pub(crate) const BROKEN: u8 = 2;
pub(crate) const UNTRIED: u8 = 3;

/// How long after its lease a dead server may stay, all but one in a hundred.
const LAPSED_MAX: Duration = Duration::from_secs(15);

/// What a run was.
pub(crate) struct Run<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) safety: Duration,
    pub(crate) liveness: Duration,
    pub(crate) broken: Broken,
    /// What had not ended when the time was over.
    pub(crate) left: Vec<String>,
    /// How long leases had been over before a take-over, while there was anybody to take over.
    pub(crate) lapsed_p99: f64,
    pub(crate) watch: &'a Watch,
}

/// What it comes to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seed: u64,
    orders: u64,
    /// How long things were broken, and how long it took afterwards until everything had ended.
    seconds_of_safety: f64,
    seconds_of_liveness: f64,
    faults: Broken,
    coverage: Vec<Coverage>,
    /// Effects that a server had asked for before it was stopped, and that came after it went on.
    effects_by_zombies: usize,
    /// How long after its lease a dead server was taken over, all but one in a hundred.
    seconds_of_lapse_p99: f64,
    violations: Vec<Violation>,
}

impl Report {
    pub(crate) fn of(run: Run<'_>, evidence: &Evidence) -> Self {
        let unended = run.left.into_iter().map(|what| Violation {
            invariant: "everything ends in time once it is healed, less what people take to decide",
            what,
        });
        let lingering = run.watch.lingering().into_iter().map(|what| Violation {
            invariant: "no session stays in a transaction for longer than five seconds",
            what,
        });
        let mut violations = violations(evidence);
        violations.extend(unended);
        violations.extend(lingering);
        let unseen = run.watch.unseen().into_iter();
        violations.extend(unseen.map(|what| Violation {
            invariant: "nothing that was accepted waits for longer than a minute to be seen to",
            what,
        }));
        violations.extend(taken_over_for_nothing(run.watch, &run.broken));
        violations.extend(taken_over_late(run.lapsed_p99));
        Self {
            seed: run.schedule.seed,
            orders: run.schedule.orders,
            seconds_of_safety: run.safety.as_secs_f64(),
            seconds_of_liveness: run.liveness.as_secs_f64(),
            faults: run.broken,
            coverage: coverage(evidence, run.watch, run.schedule.orders),
            effects_by_zombies: evidence.effects_by_zombies(),
            seconds_of_lapse_p99: run.lapsed_p99,
            violations,
        }
    }

    /// Whether nothing is wrong, and enough was put to the test to say so.
    pub(crate) fn is_clean(&self) -> bool {
        self.exit_code() == CLEAN
    }

    pub(crate) fn exit_code(&self) -> u8 {
        if !self.violations.is_empty() {
            BROKEN
        } else if self.coverage.iter().any(|it| it.count < it.least) {
            UNTRIED
        } else {
            CLEAN
        }
    }
}

/// Servers that were taken over, beyond what can have silenced one for longer than its lease.
fn taken_over_for_nothing(watch: &Watch, broken: &Broken) -> Option<Violation> {
    let count = |what: &str| broken.get(what).copied().unwrap_or_default();
    let servers = SERVERS as u64;
    let silenced = count("servers frozen beyond their lease")
        + count("connections gone silent")
        + count("connections abandoned")
        + count("connections slowed down")
        + count("databases killed") * servers;
    let lost = watch.sum("amends_workers_lost");
    // Twice as many: a machine that is overloaded silences servers too.
    (lost > 2 * silenced).then(|| Violation {
        invariant: "nobody is taken over whose lease is fresh",
        what: format!("{lost} servers were taken over, and {silenced} can have been silent"),
    })
}

/// Servers whose leases were over for long, and whose work nobody took on.
fn taken_over_late(p99: f64) -> Option<Violation> {
    (p99 > LAPSED_MAX.as_secs_f64()).then(|| Violation {
        invariant: "a dead server is taken over within 15 seconds of its lease",
        what: format!("more than one in a hundred took longer than {p99:.1} s"),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            text,
            "seed {}, {} orders: broken for {:.0} s, healed {:.0} s later",
            self.seed, self.orders, self.seconds_of_safety, self.seconds_of_liveness
        )?;
        writeln!(text, "\nbroken:")?;
        for (what, count) in &self.faults {
            writeln!(text, "{count:>7}  {what}")?;
        }
        writeln!(text, "\nput to the test:")?;
        for Coverage { what, count, least } in &self.coverage {
            let verdict = if count < least { "  TOO LITTLE" } else { "" };
            writeln!(text, "{count:>7}  {what} (at least {least}){verdict}")?;
        }
        writeln!(text, "{:>7}  effects of servers that had stood still", self.effects_by_zombies)?;
        let p99 = self.seconds_of_lapse_p99;
        writeln!(text, "{p99:>7.1}  seconds between a lease and its take-over at most (p99)")?;
        let mut shown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Violation { invariant, what } in &self.violations {
            shown.entry(invariant).or_default().push(what);
        }
        for (invariant, wrong) in shown {
            writeln!(text, "\nBROKEN PROMISE, {} times: {invariant}", wrong.len())?;
            for what in wrong.iter().take(SHOWN) {
                writeln!(text, "  - {what}")?;
            }
        }
        let verdict = if self.is_clean() { "nothing is wrong" } else { "NOT CLEAN" };
        write!(text, "\n{verdict}")
    }
}
