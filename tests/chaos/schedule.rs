//! What is broken when: a list that follows from the seed and the number of orders.
//!
//! The same list can be run again; how the operating system interleaves it is its own affair.

use serde::Serialize;

use amends_tests::chance::Chance;

use crate::stranger::Act;

/// How long the orders take to be sent, per order.
const MILLISECONDS_PER_ORDER: u64 = 75;
/// Nothing is broken before this.
const CALM_MILLISECONDS: u64 = 2_000;
/// How often each fault happens in the shortest run.
const LEAST: u64 = 2;
/// How many servers there are to break.
pub(crate) const SERVERS: usize = 3;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(crate) enum Fault {
    /// A server is ended with SIGKILL, and started again.
    KillServer { server: usize },
    /// All servers are ended with SIGKILL, so often in a row, with little more than a lease between
    /// one time and the next.
    KillEverything { times: u32 },
    /// A server is stopped for longer than its lease, and goes on as if nothing had been.
    FreezeServer { server: usize, beyond_milliseconds: u64 },
    /// The database is ended with SIGKILL, all of it, and started again.
    KillPostgres,
    /// The database ends sessions of servers.
    TerminateSessions { count: usize, salt: u64 },
    /// Connections to the database are reset.
    ResetConnections { count: usize, salt: u64 },
    /// Connections to the database swallow what is sent, and are reset later.
    SwallowConnections { count: usize, milliseconds: u64, salt: u64 },
    /// Connections to the database swallow what is sent, in the middle of whatever it is, and nobody is
    /// ever told.
    AbandonConnections { count: usize, salt: u64 },
    /// Connections to the database become slow.
    DelayConnections { count: usize, milliseconds: u64, salt: u64 },
    /// Connections to the database are reset in the middle of an answer.
    CutAnswers { count: usize, bytes: usize, salt: u64 },
    /// The database cannot be reached for so long, by nobody; answers are lost first.
    Outage { milliseconds: u64 },
    /// The database becomes slow, and cannot be reached for so long then, and the providers cannot be
    /// reached either: whatever was under way is to be tried again, is written down at once as such,
    /// and comes due before anybody is told that it is written.
    Blackout { milliseconds: u64 },
    /// Somebody who is no server does something to the database, for so long.
    Stranger { act: Act, milliseconds: u64 },
    /// Nobody reads the log of a server, for so long.
    StallLog { server: usize, milliseconds: u64 },
    /// The answer to the next commit is lost, after it has been carried out.
    LoseCommitAnswer,
    /// The next commit arrives so much later than its server hears that its connection is gone.
    HoldCommitBack { milliseconds: u64 },
    /// The answer to the server's next call to a provider is lost, after it has been carried out.
    LoseCallAnswer { server: usize },
    /// The receiver of events fails so often: first without having kept an event, then having kept
    /// it.
    FailSink { count: u32 },
}

/// A fault and its time, from the first order on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    pub(crate) at_milliseconds: u64,
    #[serde(flatten)]
    pub(crate) fault: Fault,
}

/// Everything that goes wrong, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) orders: u64,
    pub(crate) span_milliseconds: u64,
    pub(crate) events: Vec<Event>,
}

impl Schedule {
    pub(crate) fn of(seed: u64, orders: u64) -> Self {
        let span_milliseconds = orders * MILLISECONDS_PER_ORDER;
        let mut schedule = Self { seed, orders, span_milliseconds, events: Vec::new() };
        schedule.every(4_200, "kill", |chance| Fault::KillServer { server: any_server(chance) });
        schedule.kill_everything();
        schedule.every(10_000, "freeze", |chance| Fault::FreezeServer {
            server: any_server(chance),
            beyond_milliseconds: chance.within(1_500..3_500),
        });
        schedule.every(45_000, "postgres", |_| Fault::KillPostgres);
        schedule.every(2_200, "terminate", |chance| Fault::TerminateSessions {
            count: some(chance, 1..3),
            salt: chance.any(),
        });
        schedule.every(12_000, "reset", |chance| Fault::ResetConnections {
            count: some(chance, 1..6),
            salt: chance.any(),
        });
        schedule.every(25_000, "swallow", |chance| Fault::SwallowConnections {
            count: some(chance, 1..8),
            milliseconds: chance.within(4_000..8_000),
            salt: chance.any(),
        });
        schedule.every(25_000, "delay", |chance| Fault::DelayConnections {
            count: some(chance, 1..8),
            milliseconds: chance.within(50..600),
            salt: chance.any(),
        });
        schedule.every(14_000, "cut answers", |chance| Fault::CutAnswers {
            count: some(chance, 1..4),
            bytes: some(chance, 1..400),
            salt: chance.any(),
        });
        schedule.every(30_000, "outage", |chance| Fault::Outage {
            milliseconds: chance.within(1_000..10_000),
        });
        schedule.every(5_000, "blackout", |chance| Fault::Blackout {
            milliseconds: chance.within(800..2_000),
        });
        schedule.every(30_000, "abandon", |chance| Fault::AbandonConnections {
            count: some(chance, 1..4),
            salt: chance.any(),
        });
        schedule.every(20_000, "stall log", |chance| Fault::StallLog {
            server: any_server(chance),
            milliseconds: chance.within(2_000..15_000),
        });
        schedule.strangers();
        schedule.every(6_000, "lose commit answer", |_| Fault::LoseCommitAnswer);
        // Most arrive while what they are about is under way again.
        schedule.every(1_000, "hold commit back", |chance| Fault::HoldCommitBack {
            milliseconds: if chance.percent(80) {
                chance.within(200..1_500)
            } else {
                chance.within(1_500..8_000)
            },
        });
        schedule.every(1_500, "lose call answer", |chance| Fault::LoseCallAnswer {
            server: any_server(chance),
        });
        schedule.every(4_000, "sink", |_| Fault::FailSink { count: 6 });
        schedule.events.sort_by_key(|event| event.at_milliseconds);
        schedule
    }

    /// Adds that everything is killed, about once in ninety seconds and late: servers do not live
    /// for long enough meanwhile to suffer from much else.
    fn kill_everything(&mut self) {
        let span = self.span_milliseconds.saturating_sub(CALM_MILLISECONDS);
        let share = span / span.div_ceil(90_000).max(1);
        let late = (0..span / share).map(|number| number * share + share * 4 / 5);
        self.events.extend(late.map(|after| Event {
            at_milliseconds: CALM_MILLISECONDS + after,
            fault: Fault::KillEverything { times: 5 },
        }));
    }

    /// Adds what people do who have rights in the database and know nothing of the servers.
    fn strangers(&mut self) {
        type Makes = fn(&Chance) -> Act;
        let acts: [(u64, &str, std::ops::Range<u64>, Makes); 4] = [
            (8_000, "lock row", 500..4_000, |chance| Act::LockRow { salt: chance.any() }),
            (15_000, "lock table", 200..1_500, |chance| Act::LockTable { salt: chance.any() }),
            (3_000, "refuse", 300..5_000, |chance| Act::RefuseRecords { salt: chance.any() }),
            (20_000, "settings", 2_000..8_000, |_| Act::ForeignSettings),
        ];
        for (gap, purpose, how_long, act) in acts {
            self.every(gap, purpose, |chance| Fault::Stranger {
                act: act(chance),
                milliseconds: chance.within(how_long.clone()),
            });
        }
    }

    /// Adds a fault about once in so many milliseconds, and at least twice.
    fn every(&mut self, gap: u64, purpose: &str, fault: impl Fn(&Chance) -> Fault) {
        let span = self.span_milliseconds.saturating_sub(CALM_MILLISECONDS);
        let count = span.div_ceil(gap).max(LEAST);
        for number in 0..count {
            let chance = Chance::of(self.seed, purpose, number);
            let share = span / count;
            let within = share / 5 + chance.within(0..(share * 3 / 5).max(1));
            let at_milliseconds = CALM_MILLISECONDS + number * share + within;
            self.events.push(Event { at_milliseconds, fault: fault(&chance) });
        }
    }
}

fn any_server(chance: &Chance) -> usize {
    some(chance, 0..SERVERS as u64)
}

fn some(chance: &Chance, range: std::ops::Range<u64>) -> usize {
    chance.within(range) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_breaks_the_same_things_at_the_same_times() {
        assert_eq!(Schedule::of(7, 2_000), Schedule::of(7, 2_000));
        assert_ne!(Schedule::of(7, 2_000).events, Schedule::of(8, 2_000).events);
    }

    #[test]
    fn every_fault_is_there_in_the_shortest_run_too_and_within_its_time() {
        let schedule = Schedule::of(7, 100);
        let kinds: std::collections::HashSet<_> = schedule
            .events
            .iter()
            .map(|event| match event.fault {
                Fault::Stranger { act, .. } => (None, Some(std::mem::discriminant(&act))),
                fault => (Some(std::mem::discriminant(&fault)), None),
            })
            .collect();
        assert_eq!(kinds.len(), 21);
        assert!(schedule.events.iter().all(|it| it.at_milliseconds < schedule.span_milliseconds));
    }

    #[test]
    fn a_run_of_two_thousand_orders_is_as_rough_as_it_is_said_to_be() {
        let count = |is: fn(&Fault) -> bool| {
            Schedule::of(7, 2_000).events.iter().filter(|event| is(&event.fault)).count()
        };
        assert!(count(|it| matches!(it, Fault::KillServer { .. })) >= 25);
        assert_eq!(count(|it| matches!(it, Fault::KillEverything { .. })), 2);
        assert!(count(|it| matches!(it, Fault::FreezeServer { .. })) >= 5);
        assert!(count(|it| matches!(it, Fault::KillPostgres)) >= 3);
        assert!(count(|it| matches!(it, Fault::TerminateSessions { .. })) >= 50);
        assert!(count(|it| matches!(it, Fault::Outage { .. })) >= 4);
        assert!(count(|it| matches!(it, Fault::Blackout { .. })) >= 15);
        assert!(count(|it| matches!(it, Fault::HoldCommitBack { .. })) >= 30);
        let refusing =
            |it: &Fault| matches!(it, Fault::Stranger { act: Act::RefuseRecords { .. }, .. });
        assert!(count(refusing) >= 40);
    }
}
