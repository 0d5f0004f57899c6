//! Durable workflows on Postgres that make amends.
//!
//! A [`Workflow`] is ordinary async Rust that runs [`Step`]s through a [`Saga`]. Each step's
//! result is durable before the next step begins; when a step fails for good, or somebody cancels,
//! what was done is undone from the record, in reverse order. The [`Engine`] runs instances,
//! publishes their events through an outbox, and answers people.

// What an author writes.
pub mod declaration;
pub mod dependency;
pub mod event;
pub mod money;
pub mod retry;
pub mod saga;
pub mod signal;
pub mod step;
pub mod transaction_step;
pub mod workflow;

// The heart: pure.
mod attempt;
mod chain;
pub mod command;
mod compensation;
#[cfg(test)]
mod fake;
mod history;
#[cfg(test)]
mod lives;
mod memo;
mod pivots;
pub mod preview;
pub mod priority;
mod published;
mod reading;
mod record;
pub mod status;

// What performs it.
mod children;
mod claims;
mod committer;
mod drive;
mod instance;
mod intake;
mod lanes;
mod lease;
mod loops;
mod lost_claims;
mod pulse;
mod quarantine;
mod registry;
mod relay;
pub mod schedule;
mod store;
mod suspects;
mod turns;
mod undo;
mod unsettled;
mod worker;

// What its users hold.
pub mod bare;
pub mod blocked;
pub mod check;
pub mod clock;
mod clock_offset;
pub mod delivery;
pub mod doctor;
pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod intake_case;
pub mod leftover;
mod limits;
mod loss;
mod metrics;
pub mod probe;
#[doc(hidden)]
pub mod sabotage;
pub mod sink;
mod trust;
pub mod verify;
pub mod versions;
pub mod view;

pub use clock::Clock;
pub use clock_offset::ClockOffset;
pub use declaration::Declaration;
pub use delivery::{Delivery, Recorded, Verdict};
pub use dependency::Dependency;
pub use engine::{
    Engine, EngineBuilder, Requester, Settings, Start, Started, grant, migrate, reach,
};
pub use error::Error;
pub use event::Event;
pub use loss::{Loss, OnLostCommits, acknowledge_losses};
pub use money::{Currency, Imbalance, Ledger, Money, Movement, MovementKind};
pub use priority::Priority;
pub use registry::Steps;
pub use retry::RetryPolicy;
pub use saga::{At, Child, Halt, Saga};
pub use schedule::{Firing, Gap, Overlap, PrioritizedSchedule, Schedule};
pub use signal::{SendSignal, Signal, Signalled, Signals};
pub use status::Status;
pub use step::{
    Call, Compensation, Effect, Failure, Moment, Probe, Probed, Step, StepError, Undo, Undone,
};
#[doc(hidden)]
pub use store::parts::shapes as commit_shapes;
pub use store::{Access, Address, BadAddress};
pub use transaction_step::{InTransaction, PgConnection, TransactionStep, TransactionUndo};
pub use trust::Durability;
pub use workflow::{Milestone, Outcome, Workflow};
