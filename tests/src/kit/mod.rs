//! The test kit for authors of workflows: their workflow on a real engine and a real database, a
//! clock that the test moves, outcomes that it writes down, and a crash wherever it likes.
//!
//! A test arranges with [`Kit::new`] and the likes of [`Kit::attempt`], acts with [`Kit::start`],
//! [`Kit::settle`] and [`Kit::pass`], asserts, and ends with [`Kit::finish`], which checks what
//! must hold whatever was done. [`crash_everywhere`] does the same with a crash at every probe
//! point.

mod act;
mod builder;
mod ending;
mod everywhere;
mod look;
mod script;

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::probe::Probes;
use amends::view::{Filter, InstanceView};
use amends::{Engine, EngineBuilder, Settings, Status};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use crate::cluster;
use crate::crash::Crash;
use crate::invariants;
use crate::sink::Recorder;
use builder::Ground;
pub use builder::KitBuilder;
use ending::{Ending, Endings};
pub use everywhere::{crash_everywhere, lose_both, lose_everywhere, watch};
pub use script::Script;

/// A world of its own for one test of one or more workflows.
pub struct Kit {
    ground: Ground,
    engine: Mutex<Engine>,
    /// Signals that were sent, for their ids.
    signals: AtomicU32,
    /// Commands that were given, for the ids of their requests.
    requests: AtomicU32,
    /// A crash that comes when its time has come, and what this kit then goes on as.
    crash: Option<Crash>,
    endings: Option<Arc<Endings>>,
}

impl Kit {
    /// A kit for the workflows, dependencies and schedules that `build` gives to the engine. It is
    /// asked at every start of the engine, so what has to outlive a crash is made before.
    pub async fn new(
        build: impl Fn(EngineBuilder) -> EngineBuilder + Send + Sync + 'static,
    ) -> Self {
        Self::builder().build(build).await
    }

    /// A kit with something special about it.
    #[must_use]
    pub fn builder() -> KitBuilder {
        KitBuilder::default()
    }

    /// The engine, for whatever the kit has no word for.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine.lock().expect("no test panics while it holds this").clone()
    }

    /// A subscription to every event.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.ground.recorder
    }

    /// A connection to the database, past the engine.
    pub async fn database(&self) -> PgConnection {
        self.ground.options.connect().await.expect("the cluster answers")
    }

    /// How to reach the database.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.ground.options.clone()
    }

    /// How the engine reaches the database, by a detour perhaps.
    #[must_use]
    pub fn way(&self) -> PgConnectOptions {
        self.ground.way()
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.ground.clock.now()
    }

    /// Sets the clock, also back, as somebody does whose clock was wrong.
    pub fn set_clock(&self, now: DateTime<Utc>) {
        self.ground.clock.set(now);
    }

    /// Lets time pass without running anything.
    pub fn advance(&self, time: Duration) {
        self.ground.clock.advance(time);
    }

    /// Runs everything that is due now, and delivers every event.
    pub async fn settle(&self) {
        self.ask(async |engine| engine.run_until_idle().await).await.expect("the engine runs");
    }

    /// Lets time pass, and runs what has become due.
    pub async fn pass(&self, time: Duration) {
        self.advance(time);
        self.settle().await;
    }

    /// Waits until the lease of a lost engine has run out, and goes on.
    pub async fn outlive_lease(&self) {
        self.pass(Settings::default().lease + Duration::from_secs(1)).await;
    }

    /// Loses the engine without a word, as in a crash, and starts another one beside its remains.
    /// What it held is taken over once its lease has run out: see [`Kit::outlive_lease`].
    pub async fn crash(&mut self) {
        self.engine().abandon();
        self.replace_engine().await;
    }

    /// Shuts the engine down in good order, and starts another one.
    pub async fn restart(&mut self) {
        match self.engine().shutdown().await {
            // Nobody knows how far it came.
            Err(_) if self.ground.lost() > 0 => self.recover().await,
            left => {
                left.expect("it leaves in time");
                self.replace_engine().await;
            }
        }
    }

    /// Starts another engine beside this one, which becomes a zombie once its lease has run out.
    pub async fn succeed(&mut self) -> Zombie {
        Zombie(self.replace_engine().await)
    }

    /// Checks what must hold after every test: that each scripted outcome was used, that every
    /// history is whole and its chain unbroken, that ledger, records and events say the same, that
    /// nothing that is undone keeps money, and that no instance is stuck over its ledger.
    pub async fn finish(self) {
        self.stop_counting();
        let filter = Filter { status: Some(Status::Stuck), limit: 200, ..Filter::default() };
        let stuck = self.engine().instances(&filter).await.expect("they can be read");
        for InstanceView { business_key, failure, .. } in stuck {
            let failure = failure.filter(|failure| failure.code == "LEDGER_IMBALANCE");
            assert!(failure.is_none(), "{business_key}: {}", failure.expect("it is there"));
        }
        self.finish_unbalanced().await;
    }

    /// The same for a test that leaves an instance stuck over its ledger, as it wanted.
    pub async fn finish_unbalanced(self) {
        self.stop_counting();
        if let Some(detour) = &self.ground.detour
            && detour.deliver_late().await
        {
            self.settle().await;
        }
        self.notice_crash().await;
        self.ground.scripts.check();
        if !self.ground.is_crowded {
            let mut database = self.ground.past_the_engine.acquire().await.expect("it answers");
            invariants::check(&mut database).await;
            let report = amends::verify::verify(self.options(), |_| ()).await;
            let report = report.expect("histories can be verified");
            assert!(report.broken.is_empty(), "broken chains: {:?}", report.broken);
        }
        if let Some(endings) = &self.endings {
            endings.add(Ending::of(&self).await);
        }
        self.engine().abandon();
        // What was stopped ends now, and gives its connections back.
        self.crash.iter().for_each(Crash::release);
        if self.ground.is_crowded {
            cluster::drop_database(&self.ground.options).await;
        } else if self.endings.is_some() {
            cluster::give_back(&self.ground.options).await;
        }
    }

    /// Asks something of the engine. What was not answered, since the engine has crashed meanwhile
    /// or the connection to its database was lost, is asked again.
    pub async fn ask<T>(
        &self,
        act: impl AsyncFn(Engine) -> Result<T, amends::Error>,
    ) -> Result<T, amends::Error> {
        let asked = if let Some(crash) = &self.crash {
            tokio::select! {
                biased;
                done = act(self.engine()) => Some(done),
                () = crash.happened() => {
                    self.recover().await;
                    None
                }
            }
        } else {
            Some(act(self.engine()).await)
        };
        let mut lost = 0;
        let mut asked = match asked {
            Some(asked) => asked,
            None => act(self.engine()).await,
        };
        // Whoever has lost the connection asks again.
        while asked.as_ref().is_err_and(amends::Error::is_transient)
            && self.ground.lost() > std::mem::replace(&mut lost, self.ground.lost())
        {
            asked = act(self.engine()).await;
        }
        asked
    }

    /// A crash may come when nobody asks the engine for anything.
    async fn notice_crash(&self) {
        let crash = self.crash.as_ref();
        if crash.is_some_and(|crash| crash.happened().now_or_never().is_some()) {
            self.recover().await;
        }
    }

    /// Whether something was not answered, so that it may have been done twice.
    fn has_repeated(&self) -> bool {
        self.ground.lost() > 0 || self.crash.as_ref().is_some_and(Crash::has_happened)
    }

    fn stop_counting(&self) {
        self.ground.detour.iter().for_each(|detour| detour.count(false));
    }

    /// Goes on after a crash. Its lease runs out at once, since time stands still in a test.
    async fn recover(&self) {
        self.engine().abandon();
        self.ground.lapse_leases().await;
        self.replace_engine().await;
    }

    async fn replace_engine(&self) -> Engine {
        let engine = self.ground.engine(Probes::default()).await;
        let mut held = self.engine.lock().expect("no test panics while it holds this");
        std::mem::replace(&mut *held, engine)
    }
}

/// An engine that has been taken over and does not know it yet.
pub struct Zombie(Engine);

impl Zombie {
    /// Lets it do whatever it still wants to do.
    pub async fn run_dry(&self) {
        self.0.quiesce().await;
        // What it wants is refused; how it takes that is its own business.
        let _ = self.0.run_until_idle().await;
    }
}
