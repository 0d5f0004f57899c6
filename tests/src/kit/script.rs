//! Outcomes that a test has written down for attempts, in place of what the step would do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use amends::probe::{Attempting, Part, Probes, Scripted};
use amends::{Probed, Step, StepError, Undone};
use futures::FutureExt;
use sqlx::PgPool;

use super::Kit;

impl Kit {
    /// Writes down what becomes of attempt number `nth` (from 1) of a step, in every instance.
    ///
    /// An attempt that a crash has cut off does not count: the one that is made in its place finds
    /// the same outcome, as with a provider that remembers its answers.
    pub fn attempt<S: Step>(&self, nth: u32) -> Script<'_, S::Output> {
        self.script::<S, _>(Part::Run, nth)
    }

    /// The same for attempt number `nth` to undo a step.
    pub fn undo<S: Step>(&self, nth: u32) -> Script<'_, Undone> {
        self.script::<S, _>(Part::Undo, nth)
    }

    /// The same for asking what became of a step, once `nth` - 1 answers are recorded.
    pub fn probe<S: Step>(&self, nth: u32) -> Script<'_, Probed<S::Output>> {
        self.script::<S, _>(Part::Probe, nth)
    }

    fn script<S: Step, T>(&self, part: Part, nth: u32) -> Script<'_, T> {
        let line = Line {
            part,
            step: S::NAME.to_owned(),
            nth,
            business_key: None,
            outcome: Box::new(|| panic!("an outcome is written down first")),
            used: AtomicBool::new(false),
        };
        Script { scripts: &self.ground.scripts, line, answer: std::marker::PhantomData }
    }
}

/// An outcome that still has to be said. `T` is what the step answers.
#[must_use = "says nothing yet of what becomes of the attempt"]
pub struct Script<'a, T> {
    scripts: &'a Scripts,
    line: Line,
    answer: std::marker::PhantomData<fn() -> T>,
}

impl<T: Clone + Send + Sync + 'static> Script<'_, T> {
    /// Means the step where it runs as this occurrence: `2` for the second time, or the name that
    /// it was given with `saga.at(..)`.
    pub fn at(mut self, occurrence: &str) -> Self {
        self.line.step = format!("{}#{occurrence}", self.line.step);
        self
    }

    /// Means the instance about this business key, and no other.
    pub fn about(mut self, business_key: &str) -> Self {
        self.line.business_key = Some(business_key.to_owned());
        self
    }

    /// It fails. The step is not called.
    pub fn fails(self, error: StepError) {
        self.is(move || Scripted::instead::<T>(Err(error.clone())));
    }

    /// The step is called, but its answer is lost; this is heard in its place.
    pub fn applies_then(self, error: StepError) {
        self.is(move || Scripted::after(error.clone()));
    }

    /// It answers this. The step is not called.
    pub fn answers(self, answer: T) {
        self.is(move || Scripted::instead(Ok(answer.clone())));
    }

    fn is(mut self, outcome: impl Fn() -> Scripted + Send + Sync + 'static) {
        self.line.outcome = Box::new(outcome);
        self.scripts.write_down(self.line);
    }
}

/// One attempt, and what becomes of it.
struct Line {
    part: Part,
    step: String,
    nth: u32,
    business_key: Option<String>,
    outcome: Box<dyn Fn() -> Scripted + Send + Sync>,
    used: AtomicBool,
}

impl Line {
    fn concerns(&self, attempting: &Attempting<'_>) -> bool {
        let about = self.business_key.as_ref();
        self.part == attempting.part
            && self.step == attempting.step
            && about.is_none_or(|about| *about == attempting.call.business_key)
    }

    fn name(&self) -> String {
        let Self { part, step, nth, .. } = self;
        match part {
            Part::Run => format!("attempt {nth} of {step}"),
            Part::Undo => format!("attempt {nth} to undo {step}"),
            Part::Probe => format!("probe {nth} of {step}"),
        }
    }
}

/// Everything that a test has written down. Clones share it.
#[derive(Clone)]
pub(super) struct Scripts {
    lines: Arc<Mutex<Vec<Arc<Line>>>>,
    past_the_engine: PgPool,
}

impl Scripts {
    pub(super) fn new(past_the_engine: &PgPool) -> Self {
        Self { lines: Arc::default(), past_the_engine: past_the_engine.clone() }
    }

    /// Probes that do what is written down, and else what they do anyway.
    pub(super) fn follow(&self, probes: Probes) -> Probes {
        let scripts = self.clone();
        probes.script(move |attempting| {
            let scripts = scripts.clone();
            async move { scripts.outcome(attempting).await }.boxed()
        })
    }

    /// Panics over outcomes that no attempt has asked for.
    pub(super) fn check(&self) {
        let lines = self.lines.lock().expect("no test panics while it holds this");
        let unused = lines.iter().filter(|line| !line.used.load(Ordering::Relaxed));
        let unused: Vec<_> = unused.map(|line| line.name()).collect();
        assert!(unused.is_empty(), "scripted, but never made: {}", unused.join(", "));
    }

    fn write_down(&self, line: Line) {
        let mut lines = self.lines.lock().expect("no test panics while it holds this");
        let twice = lines
            .iter()
            .any(|other| other.name() == line.name() && other.business_key == line.business_key);
        assert!(!twice, "{} is scripted twice", line.name());
        lines.push(Arc::new(line));
    }

    async fn outcome(&self, attempting: Attempting<'_>) -> Option<Scripted> {
        let lines: Vec<Arc<Line>> = {
            let lines = self.lines.lock().expect("no test panics while it holds this");
            lines.iter().filter(|line| line.concerns(&attempting)).cloned().collect()
        };
        if lines.is_empty() {
            return None;
        }
        let nth = self.number(attempting).await;
        let line = lines.iter().find(|line| line.nth == nth)?;
        line.used.store(true, Ordering::Relaxed);
        Some((line.outcome)())
    }

    /// Which attempt it is among those whose outcome is, or will be, recorded. What came before it
    /// is durable by now.
    async fn number(&self, Attempting { step, part, call }: Attempting<'_>) -> u32 {
        let kind = match part {
            Part::Run => "step_interrupted",
            Part::Undo => return call.attempt,
            Part::Probe => "step_not_found",
        };
        let count: i64 = sqlx::query_scalar(
            "select count(*) from amends.record
             where instance_id = $1 and step = $2 and kind = $3",
        )
        .bind(call.instance_id)
        .bind(step)
        .bind(kind)
        .fetch_one(&self.past_the_engine)
        .await
        .expect("records can be counted");
        let count = u32::try_from(count).expect("a history is short");
        if part == Part::Run { call.attempt - count } else { count + 1 }
    }
}
