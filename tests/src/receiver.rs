//! A receiver of events that takes some, refuses some, and leaves some without an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use amends::sink::{Delivered, Sink, Undelivered};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is taken.
    Taken,
    /// It is refused.
    Refused,
    /// It has no answer until the receiver [answers](Receiver::answer); then it is judged anew.
    Unanswered,
}

type Judge = dyn Fn(&str) -> Fate + Send + Sync;

/// A receiver that judges events by their key. Clones are one and the same.
#[derive(Clone)]
pub struct Receiver(Arc<Shared>);

struct Shared {
    judge: Mutex<Arc<Judge>>,
    asked: AtomicUsize,
    /// The numbers that were taken of each key, in order.
    taken: Mutex<BTreeMap<String, Vec<u32>>>,
    answers: watch::Sender<u32>,
}

impl Receiver {
    /// A receiver that judges by `judge`.
    #[must_use]
    pub fn new(judge: impl Fn(&str) -> Fate + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            judge: Mutex::new(Arc::new(judge)),
            asked: AtomicUsize::new(0),
            taken: Mutex::default(),
            answers: watch::Sender::new(0),
        }))
    }

    /// Judges otherwise from now on, also those that have no answer yet.
    pub fn answer(&self, judge: impl Fn(&str) -> Fate + Send + Sync + 'static) {
        *self.0.judge.lock().expect("nobody panics while holding this") = Arc::new(judge);
        self.0.answers.send_modify(|answers| *answers += 1);
    }

    /// How often it was asked to take something.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// The numbers of the events that were taken of a key, in order.
    #[must_use]
    pub fn taken(&self, key: &str) -> Vec<u32> {
        let taken = self.0.taken.lock().expect("nobody panics while holding this");
        taken.get(key).cloned().unwrap_or_default()
    }

    /// How many events were taken.
    #[must_use]
    pub fn taken_in_all(&self) -> usize {
        let taken = self.0.taken.lock().expect("nobody panics while holding this");
        taken.values().map(Vec::len).sum()
    }

    /// Keys of which an event came before one with a lower number.
    #[must_use]
    pub fn out_of_order(&self) -> Vec<String> {
        let taken = self.0.taken.lock().expect("nobody panics while holding this");
        let is_wrong = |numbers: &Vec<u32>| {
            // What has come already may come again.
            let mut highest = 0;
            numbers.iter().any(|number| {
                let is_gap = *number > highest + 1;
                highest = highest.max(*number);
                is_gap
            })
        };
        taken.iter().filter(|(_, it)| is_wrong(it)).map(|(key, _)| key.clone()).collect()
    }

    fn judge(&self, key: &str) -> Fate {
        let judge = Arc::clone(&self.0.judge.lock().expect("nobody panics while holding this"));
        judge(key)
    }
}

impl Sink for Receiver {
    fn deliver<'a>(&'a self, event: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(async move {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.0.answers.subscribe();
            loop {
                match self.judge(event.key) {
                    Fate::Taken => break,
                    Fate::Refused => {
                        return Err(Undelivered { message: "refused".to_owned(), after: None });
                    }
                    // The sender lives in `self`, so waiting cannot fail.
                    Fate::Unanswered => drop(answers.changed().await),
                }
            }
            let mut taken = self.0.taken.lock().expect("nobody panics while holding this");
            taken.entry(event.key.to_owned()).or_default().push(event.number);
            Ok(())
        })
    }
}
