//! What a kit is made of, and what of it outlives a crash of the engine.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::clock::Clock;
use amends::probe::Probes;
use amends::{Engine, EngineBuilder, Settings};
use chrono::DateTime;
use sqlx::postgres::PgConnectOptions;

use super::Kit;
use super::ending::Endings;
use super::script::Scripts;
use crate::cluster;
use crate::crash::Crash;
use crate::sink::Recorder;

/// Builds a [`Kit`].
#[derive(Default)]
pub struct KitBuilder {
    probes: Probes,
    crash: Option<Crash>,
    endings: Option<Arc<Endings>>,
    detour: Option<Detour>,
}

type Detour = Box<dyn Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync>;

impl KitBuilder {
    /// Watches, or stops, the first engine at its probe points.
    #[must_use]
    pub fn probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// Has the engine reach its database by a detour, such as a proxy that loses an answer.
    #[must_use]
    pub fn detour(
        mut self,
        detour: impl Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync + 'static,
    ) -> Self {
        self.detour = Some(Box::new(detour));
        self
    }

    /// A kit whose engine crashes at probe point number `nth`, and goes on.
    pub(super) fn crashing_at(nth: Option<usize>, endings: Arc<Endings>) -> (Self, Crash) {
        let (crash, probes) = Crash::at(nth);
        let builder =
            Self { probes, crash: Some(crash.clone()), endings: Some(endings), detour: None };
        (builder, crash)
    }

    /// Builds it, for the workflows that `build` gives to the engine: see [`Kit::new`].
    pub async fn build(
        self,
        build: impl Fn(EngineBuilder) -> EngineBuilder + Send + Sync + 'static,
    ) -> Kit {
        let start_of_time = DateTime::from_timestamp(1_795_000_000, 0).expect("a valid time");
        let options = cluster::database().await;
        let ground = Ground {
            scripts: Scripts::new(&options),
            options,
            clock: Clock::manual(start_of_time),
            recorder: Recorder::default(),
            build: Box::new(build),
            detour: self.detour,
        };
        let engine = Mutex::new(ground.engine(self.probes).await);
        let (crash, endings) = (self.crash, self.endings);
        Kit { ground, engine, signals: AtomicU32::new(0), crash, endings }
    }
}

/// What outlives a crash of the engine.
pub(super) struct Ground {
    pub(super) options: PgConnectOptions,
    pub(super) clock: Clock,
    pub(super) recorder: Recorder,
    pub(super) scripts: Scripts,
    build: Box<dyn Fn(EngineBuilder) -> EngineBuilder + Send + Sync>,
    detour: Option<Detour>,
}

impl Ground {
    pub(super) async fn engine(&self, probes: Probes) -> Engine {
        let direct = self.options.clone();
        let options = self.detour.as_ref().map_or(direct.clone(), |detour| detour(direct));
        let builder = Engine::builder(options)
            .subscription("recorder", self.recorder.clone())
            .settings(Settings { linger: Duration::ZERO, ..Settings::default() })
            .clock(self.clock.clone())
            .probes(self.scripts.follow(probes));
        (self.build)(builder).open().await.expect("the engine opens")
    }
}
