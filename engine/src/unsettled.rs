//! Pauses between attempts at having something recorded of an instance.
//!
//! Whatever keeps it from being recorded, and for however long: the database is asked ever more
//! seldom.

use std::time::Duration;

use crate::instance::Instance;
use crate::limits;

/// Passes that could not be settled one after the other, without anything having become durable.
#[derive(Default)]
pub(crate) struct Unsettled {
    passes: u32,
    revision: i32,
}

impl Unsettled {
    /// Waits, unless mail that has just come in explains it: whatever is in the way is asked for
    /// ever more seldom.
    pub(crate) async fn pause(&mut self, instance: &Instance) {
        let revision = instance.state().revision();
        self.passes = if revision == self.revision { self.passes + 1 } else { 0 };
        self.revision = revision;
        if let Some(doublings) = self.passes.checked_sub(limits::UNSETTLED_MAX) {
            let pause = Duration::from_millis(20) * 2_u32.pow(doublings.min(10));
            instance.worker.clock.sleep(pause.min(limits::UNSETTLED_PAUSE_MAX)).await;
        }
    }
}
