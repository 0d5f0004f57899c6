//! A workflow that books two places, with a clerk between who keeps a book of his own: the witness
//! of races.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::{
    Call, Declaration, Event, Halt, RetryPolicy, Saga, SendSignal, Signal, Signals, Start, Step,
    StepError, Steps, Undo, Undone, Workflow,
};
use serde::{Deserialize, Serialize};

/// How long the news is waited for.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// What the clerk knows of a booking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Booked {
    /// Places that are taken.
    pub taken: u32,
    /// Places that were given back.
    pub given_back: u32,
}

/// What the clerk has written down. Clones share it.
#[derive(Clone, Default)]
pub struct Book {
    /// By business key, once per idempotency key.
    places: Arc<Mutex<BTreeMap<String, BTreeMap<String, bool>>>>,
    /// How many milliseconds the clerk takes to sell a place.
    pace: Arc<AtomicU64>,
}

impl Book {
    /// What is written of a booking.
    #[must_use]
    pub fn of(&self, business_key: &str) -> Booked {
        let book = self.places.lock().expect("the clerk does not panic");
        let mut booked = Booked::default();
        for is_taken in book.get(business_key).into_iter().flat_map(BTreeMap::values) {
            booked.taken += 1;
            booked.given_back += u32::from(!is_taken);
        }
        booked
    }

    /// Has the clerk take so long, in whole milliseconds, to sell a place.
    pub fn pace(&self, pace: Duration) {
        self.pace.store(pace.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn write(&self, call: &Call, is_taken: bool) {
        let mut book = self.places.lock().expect("the clerk does not panic");
        let places = book.entry(call.business_key.clone()).or_default();
        places.insert(call.forward_key().to_owned(), is_taken);
    }
}

/// Takes a place.
#[derive(Clone)]
pub struct Take(Book);

impl Step for Take {
    const NAME: &'static str = "take";
    type Input = u32;
    type Output = u32;

    fn declare(&self) -> Declaration<Self> {
        let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        Declaration::idempotent()
            .settles_within(Duration::ZERO)
            .undo()
            .retry(retry.clone())
            .undo_retry(retry)
    }

    #[expect(clippy::disallowed_methods, reason = "the clerk lives in real time")]
    async fn run(&self, call: &Call, place: &u32) -> Result<u32, StepError> {
        tokio::time::sleep(Duration::from_millis(self.0.pace.load(Ordering::Relaxed))).await;
        self.0.write(call, true);
        Ok(*place)
    }
}

impl Undo for Take {
    async fn undo(&self, call: &Call, _: &u32, _: Option<&u32>) -> Result<Undone, StepError> {
        self.0.write(call, false);
        Ok(Undone::by("the clerk"))
    }
}

/// News that is waited for between the two places.
#[derive(Debug, Serialize, Deserialize)]
pub struct News;

impl Signal for News {
    const NAME: &'static str = "news";
}

/// What an instance is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Take both places.
    Straight,
    /// Wait for the news in between.
    AfterNews,
}

/// The workflow. It answers whether the news came.
pub struct Booking(Take);

impl Booking {
    /// With this book.
    #[must_use]
    pub fn with(book: &Book) -> Self {
        Self(Take(book.clone()))
    }
}

impl Workflow for Booking {
    const NAME: &'static str = "booking";
    const VERSION: u32 = 1;
    type Input = Order;
    type Output = bool;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<News>()
    }

    async fn run(&self, saga: &Saga, order: Order) -> Result<bool, Halt> {
        saga.publish(Event::new("BOOKING", &order)).await?;
        saga.run(&self.0, &1).await?;
        let heard = match order {
            Order::Straight => true,
            Order::AfterNews => saga.wait::<News>(PATIENCE).await?.is_some(),
        };
        saga.run(&self.0, &2).await?;
        Ok(heard)
    }
}

/// A request for a booking.
#[must_use]
pub fn start(business_key: &str, order: Order) -> Start {
    Start {
        workflow: Booking::NAME,
        business_key: business_key.to_owned(),
        input: serde_json::to_string(&order).expect("an order is JSON"),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}

/// The news for a booking, under this id.
#[must_use]
pub fn news(business_key: &str, signal_id: &str) -> SendSignal {
    SendSignal {
        workflow: Booking::NAME.to_owned(),
        business_key: business_key.to_owned(),
        name: News::NAME.to_owned(),
        body: "null".to_owned(),
        sender: "the test".to_owned(),
        signal_id: Some(signal_id.to_owned()),
    }
}
