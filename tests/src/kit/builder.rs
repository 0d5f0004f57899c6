//! What a kit is made of, and what of it outlives a crash of the engine.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::clock::Clock;
use amends::probe::Probes;
use amends::{Engine, EngineBuilder, Settings};
use chrono::DateTime;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::Kit;
use super::ending::Endings;
use super::script::Scripts;
use crate::cluster;
use crate::crash::Crash;
use crate::detour::Detour;
use crate::sink::Recorder;

/// Ends the sessions of the engine, as the end of its process would. Returns how many there were.
const END_SESSIONS: &str = "
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where datname = current_database() and application_name = 'amends'";

/// Builds a [`Kit`].
#[derive(Default)]
pub struct KitBuilder {
    probes: Probes,
    crash: Option<Crash>,
    endings: Option<Arc<Endings>>,
    detour: Option<Detour>,
    crowded: Option<PgConnectOptions>,
    role: Option<&'static str>,
}

impl KitBuilder {
    /// Has the engine be this role in its database, which has the rights of one that runs servers.
    #[must_use]
    pub fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// Watches, or stops, the first engine at its probe points.
    #[must_use]
    pub fn probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// Has the engine reach its database by a detour, which counts requests once the kit is built
    /// and until it is finished. What is lost on it is asked for once more, as a caller does.
    #[must_use]
    pub fn detour(mut self, detour: &Detour) -> Self {
        self.detour = Some(detour.clone());
        self
    }

    /// Builds it on a database of which not everything makes sense, and at whose end nothing is
    /// checked.
    #[must_use]
    pub fn on(mut self, crowded: PgConnectOptions) -> Self {
        self.crowded = Some(crowded);
        self
    }

    /// A kit whose engine crashes when it is time for that, and goes on.
    pub(super) fn crash(mut self, crash: &Crash, probes: Probes) -> Self {
        (self.crash, self.probes) = (Some(crash.clone()), probes);
        self
    }

    /// A kit that says how it has ended.
    pub(super) fn endings(mut self, endings: &Arc<Endings>) -> Self {
        self.endings = Some(Arc::clone(endings));
        self
    }

    /// Builds it, for the workflows that `build` gives to the engine: see [`Kit::new`].
    pub async fn build(
        self,
        build: impl Fn(EngineBuilder) -> EngineBuilder + Send + Sync + 'static,
    ) -> Kit {
        let start_of_time = DateTime::from_timestamp(1_795_000_000, 0).expect("a valid time");
        let is_crowded = self.crowded.is_some();
        let options = match self.crowded {
            Some(crowded) => crowded,
            None if self.endings.is_some() => cluster::borrow().await,
            None => cluster::database().await,
        };
        if let Some(role) = self.role {
            cluster::make_role(&options, role).await;
            amends::grant(options.clone(), role).await.expect("the owner may grant");
        }
        let past_the_engine = PgPoolOptions::new().connect_lazy_with(options.clone());
        let ground = Ground {
            scripts: Scripts::new(&past_the_engine),
            options,
            past_the_engine,
            clock: Clock::manual(start_of_time),
            recorder: Recorder::default(),
            build: Box::new(build),
            detour: self.detour,
            is_crowded,
            role: self.role,
        };
        let engine = Mutex::new(ground.engine(self.probes).await);
        ground.detour.iter().for_each(|detour| detour.count(true));
        let (crash, endings) = (self.crash, self.endings);
        let (signals, requests) = (AtomicU32::new(0), AtomicU32::new(0));
        Kit { ground, engine, signals, requests, crash, endings }
    }
}

/// What outlives a crash of the engine.
pub(super) struct Ground {
    pub(super) options: PgConnectOptions,
    /// Sessions of the kit's own.
    pub(super) past_the_engine: PgPool,
    pub(super) clock: Clock,
    pub(super) recorder: Recorder,
    pub(super) scripts: Scripts,
    pub(super) detour: Option<Detour>,
    pub(super) is_crowded: bool,
    role: Option<&'static str>,
    build: Box<dyn Fn(EngineBuilder) -> EngineBuilder + Send + Sync>,
}

impl Ground {
    /// The way by which the engine reaches its database.
    pub(super) fn way(&self) -> PgConnectOptions {
        let by = |detour: &Detour| detour.options(&self.options);
        let way = self.detour.as_ref().map_or_else(|| self.options.clone(), by);
        match self.role {
            Some(role) => way.username(role),
            None => way,
        }
    }

    pub(super) async fn engine(&self, probes: Probes) -> Engine {
        loop {
            let lost = self.lost();
            match self.open(&probes).await {
                // What has registered, perhaps, is a worker of whom nobody will hear again.
                Err(_) if self.lost() > lost => self.lapse_leases().await,
                opened => return opened.expect("the engine opens"),
            }
        }
    }

    async fn open(&self, probes: &Probes) -> Result<Engine, amends::Error> {
        let builder = Engine::builder(self.way())
            .subscription("recorder", self.recorder.clone())
            .settings(Settings { linger: Duration::ZERO, ..Settings::default() })
            .clock(self.clock.clone())
            .probes(self.scripts.follow(probes.clone()));
        (self.build)(builder).open().await
    }

    /// How many requests or answers were lost.
    pub(super) fn lost(&self) -> usize {
        self.detour.as_ref().map_or(0, |detour| detour.lost().len())
    }

    /// Has every lease run out, though time stands still.
    pub(super) async fn lapse_leases(&self) {
        let mut database = self.past_the_engine.acquire().await.expect("the cluster answers");
        // A renewal that was cut off may still be under way, and would come after this.
        while sqlx::query_scalar(END_SESSIONS).fetch_one(&mut *database).await.ok() != Some(0_i64) {
            tokio::task::yield_now().await;
        }
        sqlx::query("update amends.worker set lease_until = '-infinity'")
            .execute(&mut *database)
            .await
            .expect("workers can be written to");
    }
}
