//! What an author writes for a signal: news from the outside world that an instance waits for.

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// News for an instance, such as "the parcel is packed".
///
/// A signal is kept from the moment it is accepted, in whatever state its instance is, also before
/// there is one. [`crate::Saga::wait`] takes signals of one name in the order of their arrival.
pub trait Signal: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name under which it is sent and stands in every history.
    const NAME: &'static str;
}

/// The signals that a workflow waits for.
#[derive(Debug, Default)]
pub struct Signals {
    signals: Vec<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    name: &'static str,
    check: fn(&str) -> Result<(), serde_json::Error>,
}

impl Signals {
    /// No signals yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a signal.
    #[must_use]
    pub fn signal<S: Signal>(mut self) -> Self {
        let check = |body: &str| serde_json::from_str::<S>(body).map(drop);
        self.signals.push(Known { name: S::NAME, check });
        self
    }

    /// Their names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.signals.iter().map(|known| known.name)
    }

    /// Why the workflow does not take this signal.
    pub(crate) fn refuse(&self, name: &str, body: &str) -> Option<String> {
        let Some(known) = self.signals.iter().find(|known| known.name == name) else {
            let names: Vec<_> = self.names().collect();
            return Some(match names.as_slice() {
                [] => format!("no signal {name} is waited for; there are none"),
                names => {
                    format!("no signal {name} is waited for; there are: {}", names.join(", "))
                }
            });
        };
        (known.check)(body).err().map(|error| format!("signal {name}: {error}"))
    }
}

/// A signal to be sent.
#[derive(Debug, Clone)]
pub struct SendSignal {
    /// The workflow of the instance.
    pub workflow: String,
    /// What the instance is about.
    pub business_key: String,
    /// Which signal.
    pub name: String,
    /// What it says, as JSON.
    pub body: String,
    /// Who says so, for the history.
    pub sender: String,
    /// The sender's own id for it: of one sender and one name, the same id is taken once per
    /// instance. Without one, every sending is another signal.
    pub signal_id: Option<String>,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// This instance will read it.
    Accepted(Uuid),
    /// There is no such instance yet; it will read the signal when it is started.
    Kept,
    /// This instance had it before.
    Replayed(Uuid),
    /// This instance has ended. The signal was not stored.
    AlreadyEnded(Uuid),
}
