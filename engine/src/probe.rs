//! Named points at which a test may stop the world, and attempts that a test may decide; nothing in
//! production.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::bare::Recorder;
use crate::step::{Call, StepError};
use crate::store::write::Write;

type Hook = dyn Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync;
type Script = dyn for<'a> Fn(Attempting<'a>) -> BoxFuture<'a, Option<Scripted>> + Send + Sync;

/// What happens when the engine reaches a probe point, and when it makes an attempt.
#[derive(Clone, Default)]
pub struct Probes {
    hook: Option<Arc<Hook>>,
    script: Option<Arc<Script>>,
    recorder: Option<Recorder>,
}

impl Probes {
    /// Calls `hook` with the name of each point that is reached, and waits for it.
    pub fn new(
        hook: impl Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { hook: Some(Arc::new(hook)), ..Self::default() }
    }

    /// Asks `script` before each attempt what is to become of it; `None`: what the step does.
    #[must_use]
    pub fn script(
        mut self,
        script: impl for<'a> Fn(Attempting<'a>) -> BoxFuture<'a, Option<Scripted>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.script = Some(Arc::new(script));
        self
    }

    /// Has `recorder` note what is committed.
    #[must_use]
    pub fn record(mut self, recorder: &Recorder) -> Self {
        self.recorder = Some(recorder.clone());
        self
    }

    /// A batch has been committed.
    pub(crate) fn committed<'a>(&self, writes: impl ExactSizeIterator<Item = &'a Write>) {
        if let Some(recorder) = &self.recorder {
            recorder.note(writes);
        }
    }

    pub(crate) async fn reach(&self, point: &'static str) {
        if let Some(hook) = &self.hook {
            hook(point).await;
        }
    }

    /// Makes an attempt, unless a test has decided otherwise.
    pub(crate) async fn attempt<T: 'static>(
        &self,
        attempting: Attempting<'_>,
        made: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let Some(script) = &self.script else {
            return made.await;
        };
        let Some(scripted) = script(attempting).await else {
            return made.await;
        };
        if scripted.is_made {
            // It has happened; what it said is lost.
            let _ = made.await;
        }
        let answer = scripted.answer?.downcast();
        Ok(*answer.unwrap_or_else(|_| panic!("a script answers with the type of another step")))
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_hooked = self.hook.is_some() || self.script.is_some() || self.recorder.is_some();
        formatter.write_str(if is_hooked { "Probes(hooked)" } else { "Probes(none)" })
    }
}

/// An attempt that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Attempting<'a> {
    /// The step's name and occurrence, such as `charge#2`.
    pub step: &'a str,
    /// What is asked of the step.
    pub part: Part,
    /// What the step is told.
    pub call: &'a Call,
}

/// What is asked of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// [`crate::Step::run`]
    Run,
    /// [`crate::Undo::undo`]
    Undo,
    /// [`crate::Probe::probe`]
    Probe,
}

/// What a test has decided about an attempt.
pub struct Scripted {
    is_made: bool,
    answer: Result<Box<dyn Any + Send>, StepError>,
}

impl Scripted {
    /// The step is not called; this is its answer, of the type that the step answers with.
    pub fn instead<T: Send + 'static>(answer: Result<T, StepError>) -> Self {
        Self { is_made: false, answer: answer.map(|answer| Box::new(answer) as _) }
    }

    /// The step is called, and its answer is lost: this is what the engine hears.
    #[must_use]
    pub fn after(error: StepError) -> Self {
        Self { is_made: true, answer: Err(error) }
    }
}
