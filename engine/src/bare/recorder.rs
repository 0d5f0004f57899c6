//! What an engine commits, noted as it goes out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::store::write::Write;

/// Notes the batches of an engine: see [`crate::probe::Probes::record`]. Clones share what they
/// have noted.
#[derive(Debug, Clone)]
pub struct Recorder {
    kept: Kept,
    log: Arc<Mutex<Log>>,
}

/// What is kept of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Writes,
    Sizes,
}

#[derive(Debug, Default)]
struct Log {
    sizes: Vec<usize>,
    writes: Vec<Write>,
}

impl Recorder {
    /// Keeps every write, for [`super::Bare`] to send again.
    #[must_use]
    pub fn of_writes() -> Self {
        Self { kept: Kept::Writes, log: Arc::default() }
    }

    /// Keeps only how many writes each batch had, which costs the engine next to nothing.
    #[must_use]
    pub fn of_sizes() -> Self {
        Self { kept: Kept::Sizes, log: Arc::default() }
    }

    /// How many writes each batch had since this was asked last.
    #[must_use]
    pub fn take_sizes(&self) -> Vec<usize> {
        std::mem::take(&mut self.log().sizes)
    }

    /// A batch has been committed.
    pub(crate) fn note<'a>(&self, writes: impl ExactSizeIterator<Item = &'a Write>) {
        let mut log = self.log();
        log.sizes.push(writes.len());
        if self.kept == Kept::Writes {
            log.writes.extend(writes.cloned());
        }
    }

    /// The writes of each instance that was born and has ended, in the order in which they went in.
    pub(super) fn finished(&self) -> Vec<Vec<Write>> {
        let log = self.log();
        let (mut places, mut lives) = (HashMap::<Uuid, usize>::new(), Vec::<Vec<Write>>::new());
        for write in &log.writes {
            let place = *places.entry(write.instance_id).or_insert(lives.len());
            match lives.get_mut(place) {
                Some(life) => life.push(write.clone()),
                None => lives.push(vec![write.clone()]),
            }
        }
        lives.retain(|life| {
            let is_born = life.first().is_some_and(|write| write.start.is_some());
            let last = life.last().and_then(|write| write.change.as_ref());
            is_born && last.is_some_and(|change| change.status.is_terminal())
        });
        lives
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
