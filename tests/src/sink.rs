//! A subscription that remembers what it was sent, and can refuse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use amends::sink::{Delivered, Sink, Undelivered};
use futures::future::BoxFuture;

/// An event as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The key within which order counts.
    pub key: String,
    /// Its number within its instance.
    pub number: u32,
    /// Its data.
    pub data: String,
}

/// Remembers every arrival, repetitions too. Clones share what they remember.
#[derive(Clone, Default)]
pub struct Recorder {
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// The keys that are refused, and what is said of it.
    refused: Arc<Mutex<Vec<(String, String)>>>,
    panics: Arc<AtomicBool>,
}

impl Recorder {
    /// Everything that has arrived, in order.
    #[must_use]
    pub fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().expect("no test panics while it holds this").clone()
    }

    /// The kinds that have arrived for a key, in order.
    #[must_use]
    pub fn kinds(&self, key: &str) -> Vec<String> {
        self.arrived()
            .into_iter()
            .filter(|arrived| arrived.key == key)
            .map(|arrived| arrived.kind)
            .collect()
    }

    /// Refuses everything for `key` until [`Recorder::accept_all`].
    pub fn refuse(&self, key: &str) {
        self.refuse_saying(key, "refused by the test");
    }

    /// The same, with this message.
    pub fn refuse_saying(&self, key: &str, message: &str) {
        let refused = (key.to_owned(), message.to_owned());
        self.refused.lock().expect("no test panics while it holds this").push(refused);
    }

    /// Panics at the next arrival, as a sink may that has a bug.
    pub fn panic_once(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// Accepts everything again.
    pub fn accept_all(&self) {
        self.refused.lock().expect("no test panics while it holds this").clear();
    }
}

impl Sink for Recorder {
    fn deliver<'a>(&'a self, event: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(async move {
            assert!(!self.panics.swap(false, Ordering::SeqCst), "the test wants it");
            let refused = self.refused.lock().expect("no test panics while it holds this");
            if let Some((_, message)) = refused.iter().find(|(key, _)| key == event.key) {
                return Err(Undelivered { message: message.clone(), after: None });
            }
            drop(refused);
            self.arrived.lock().expect("no test panics while it holds this").push(Arrived {
                id: event.id.to_owned(),
                kind: event.kind.to_owned(),
                key: event.key.to_owned(),
                number: event.number,
                data: event.data.to_owned(),
            });
            Ok(())
        })
    }
}
