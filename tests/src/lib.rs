//! The harness: a world with a database of its own, a clock that the test moves, and providers
//! that keep a ledger of their own.
//!
//! A test arranges through [`World`], acts by request or by [`World::settle`], asserts one fact or
//! a timeline, and ends with [`World::finish`], which checks the invariants.

#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

pub mod awaiting;
pub mod cluster;
pub mod crash;
pub mod detour;
pub mod http;
pub mod improvised;
pub mod invariants;
pub mod orders;
pub mod packing;
pub mod process;
pub mod providers;
pub mod scripted;
pub mod shop;
pub mod sink;
pub mod timeline;

mod world;

pub use world::{World, WorldBuilder, Zombie, start_request};
