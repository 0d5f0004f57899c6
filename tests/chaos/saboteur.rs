//! Does what the schedule says, at the time it says, and counts what has come of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::Row;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::load::{Plan, Slow, plans};
use crate::proxy::{Harm, Proxy};
use crate::scene::Scene;
use crate::schedule::{Fault, SERVERS, Schedule};
use crate::server::Server;
use crate::stranger;
use amends_tests::chance::Chance;

/// Longer than anybody waits for an answer to a charge.
const LATE_MILLISECONDS: u64 = 1_200;
/// A deposit that is late is so much later than its first undo, also on a slow machine; sooner than
/// its provider settles.
const DEPOSIT_LATE_MILLISECONDS: u64 = 10_000;

/// Providers that know nothing of an undo that came before what it undoes.
const FORGETFUL: [&str; 3] = ["stock", "invoice", "payment"];

/// How slow a database becomes before it is gone, and for how long. It is gone when what has come
/// together while one commit was on its way is on its way itself.
const BROWNOUT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(600));

/// By when what a dead server held is taken up, seen from the end of its lease, as a rule.
const TAKEN_UP: Duration = Duration::from_secs(4);

/// Longer than anybody waits for an answer of the database.
const ABANDONED: Duration = Duration::from_secs(70);

/// More rules than these would not fit into a request.
const SLOW_CALLS_MAX: usize = 350;
const UNWANTED_MAX: usize = 50;

/// The mix of the providers' failures.
pub(crate) fn mix(seed: u64) -> Value {
    json!({ "seed": seed, "unknown_percent": 8, "error_percent": 5, "decline_percent": 10,
        "refuse_percent": 10, "late_percent": 8, "gateway_percent": 6, "delay_ms": 400,
        "late_ms": LATE_MILLISECONDS })
}

/// The calls that take their time, whatever the mix says.
fn slow_calls(schedule: &Schedule) -> Vec<Value> {
    let rules = plans(schedule).into_iter().filter_map(|plan| {
        let (provider, operation, fault, delay_milliseconds) = match plan.slow? {
            Slow::Charge => ("payment", "charge", "slow", LATE_MILLISECONDS),
            Slow::Parcel => ("carrier", "ship", "slow", LATE_MILLISECONDS),
            Slow::Deposit => ("payment", "charge", "late", DEPOSIT_LATE_MILLISECONDS),
        };
        Some(json!({ "provider": provider, "operation": operation, "fault": fault,
            "order_id": plan.business_key(), "delay_ms": delay_milliseconds }))
    });
    rules.take(SLOW_CALLS_MAX).collect()
}

/// The orders of which the receiver of events wants to know nothing.
fn unwanted(schedule: &Schedule) -> Vec<Value> {
    let unwanted = plans(schedule).into_iter().filter(|plan| plan.is_unwanted);
    let rule = |plan: Plan| {
        json!({ "provider": "events", "operation": "deliver", "fault": "refuse",
            "order_id": plan.business_key() })
    };
    unwanted.take(UNWANTED_MAX).map(rule).collect()
}

/// Whoever breaks things.
struct Saboteur {
    scene: Arc<Scene>,
    /// The rules for single orders.
    rules: Vec<Value>,
    broken: Mutex<Broken>,
}

/// What has been broken, by kind.
pub(crate) type Broken = BTreeMap<&'static str, u64>;

/// Breaks everything in its turn, and ends when the last of it has been put right.
pub(crate) async fn work(scene: &Arc<Scene>, schedule: &Schedule, begin: Instant) -> Broken {
    let saboteur = Arc::new(Saboteur {
        scene: Arc::clone(scene),
        rules: [unwanted(schedule), slow_calls(schedule)].concat(),
        broken: Mutex::default(),
    });
    saboteur.fail_sink(0).await;
    let mut under_way = JoinSet::new();
    for event in &schedule.events {
        sleep_until(begin + Duration::from_millis(event.at_milliseconds)).await;
        let (saboteur, fault) = (Arc::clone(&saboteur), event.fault);
        under_way.spawn(async move { saboteur.perform(fault).await });
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap_or_else(|error| panic!("a fault could not be brought about: {error}"));
    }
    let calls = scene.providers_proxies.iter().map(Proxy::answers_lost).sum();
    saboteur.count("answers to calls lost", calls);
    saboteur.count("answers to commits lost", scene.database_proxy.answers_lost());
    saboteur.count("commits that arrived late", scene.database_proxy.held_back());
    saboteur.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Saboteur {
    fn count(&self, what: &'static str, count: u64) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        *broken.entry(what).or_default() += count;
    }

    async fn perform(&self, fault: Fault) {
        let scene = &self.scene;
        let time = Duration::from_millis;
        let harm = |count, salt, harm| {
            scene.database_proxy.harm(count, harm, &Chance::of(salt, "connections", 0))
        };
        match fault {
            Fault::KillServer { server } => self.kill_one(server).await,
            Fault::KillEverything { times } => self.kill_everything(times).await,
            Fault::FreezeServer { server, beyond_milliseconds } => {
                scene.servers[server].freeze(time(beyond_milliseconds)).await;
                self.count("servers frozen beyond their lease", 1);
            }
            Fault::KillPostgres => {
                scene.restart_postgres().await;
                self.count("databases killed", 1);
            }
            Fault::TerminateSessions { count, salt } => {
                self.count("sessions terminated", terminate(scene, count, salt).await);
            }
            Fault::ResetConnections { count, salt } => {
                self.count("connections reset", harm(count, salt, Harm::Reset));
            }
            Fault::SwallowConnections { count, milliseconds, salt } => {
                let swallow = Harm::Swallow(time(milliseconds));
                self.count("connections gone silent", harm(count, salt, swallow));
            }
            Fault::AbandonConnections { count, salt } => {
                let abandon = Harm::Swallow(ABANDONED);
                self.count("connections abandoned", harm(count, salt, abandon));
            }
            Fault::DelayConnections { count, milliseconds, salt } => {
                let delay = Harm::Delay(time(milliseconds));
                self.count("connections slowed down", harm(count, salt, delay));
            }
            Fault::CutAnswers { count, bytes, salt } => {
                let cut = Harm::CutAfter(bytes);
                self.count("connections cut within an answer", harm(count, salt, cut));
            }
            Fault::Outage { milliseconds } => {
                scene.database_proxy.go_down(time(milliseconds), Harm::LoseAnswers);
                self.count("outages of the database", 1);
            }
            Fault::Blackout { milliseconds } => {
                self.black_out(time(milliseconds)).await;
                self.count("blackouts", 1);
            }
            Fault::Stranger { act, milliseconds } => {
                let done = stranger::perform(scene, act, time(milliseconds)).await;
                self.count(act.in_words(), done.into());
            }
            Fault::StallLog { server, milliseconds } => {
                scene.servers[server].stall_log(time(milliseconds)).await;
                self.count("logs that nobody read for a while", 1);
            }
            Fault::LoseCommitAnswer => scene.database_proxy.lose_answer(),
            Fault::HoldCommitBack { milliseconds } => {
                scene.database_proxy.hold_back(time(milliseconds));
            }
            Fault::LoseCallAnswer { server } => scene.providers_proxies[server].lose_answer(),
            Fault::FailSink { count } => {
                self.fail_sink(count).await;
                self.count("failures of the receiver of events", u64::from(count));
            }
        }
    }

    /// Ends this server, or the next one that nothing is done to.
    async fn kill_one(&self, server: usize) {
        for turn in 0..SERVERS {
            if self.scene.servers[(server + turn) % SERVERS].kill_and_start().await {
                self.count("servers killed", 1);
                break;
            }
        }
    }

    /// Ends all servers so often, each time when what they held has just been taken up again.
    async fn kill_everything(&self, times: u32) {
        for _ in 0..times {
            let killed = self.scene.servers.iter().map(Server::kill_and_start);
            let killed = join_all(killed).await.into_iter().filter(|killed| *killed).count();
            self.count("servers killed", killed as u64);
            sleep(self.scene.pace.lease() + TAKEN_UP).await;
        }
        self.count("times that everything was killed five times in a row", 1);
    }

    /// Takes the providers away, and the database while everybody says so.
    async fn black_out(&self, how_long: Duration) {
        let (slow, until_gone) = BROWNOUT;
        self.scene.database_proxy.harm_all(Harm::Delay(slow));
        for proxy in &self.scene.providers_proxies {
            proxy.go_down(until_gone + how_long, Harm::Reset);
        }
        sleep(until_gone).await;
        self.scene.database_proxy.go_down(how_long, Harm::LoseAnswers);
    }

    /// Has the receiver of events fail so often, before and after it has kept one. Rules replace
    /// each other, so all of them are sent.
    async fn fail_sink(&self, count: u32) {
        let failing = ["error_before", "error_after"].map(|fault| {
            json!({ "provider": "events", "operation": "deliver", "fault": fault,
                "times": count / 2 })
        });
        let rules: Vec<_> = self.rules.iter().chain(&failing).collect();
        let faults = json!({ "rules": rules, "forgetful": FORGETFUL });
        let told = self.scene.tell_sandbox("/faults", &faults).await;
        told.expect("the stand-ins answer");
    }
}

/// Ends so many sessions of the servers, whichever. None, while there is no database.
async fn terminate(scene: &Scene, count: usize, salt: u64) -> u64 {
    let Ok(mut database) = scene.database().await else { return 0 };
    let ended = sqlx::query(
        "select pg_terminate_backend(pid) from
         (select pid from pg_stat_activity where application_name = 'amends'
          order by md5(pid::text || $1) limit $2) chosen",
    );
    let ended = ended.bind(salt.to_string()).bind(count as i64).fetch_all(&mut database).await;
    let ended = ended.unwrap_or_default();
    ended.iter().filter(|row| row.try_get(0).unwrap_or(false)).count() as u64
}
