//! The test kit for authors of workflows, and the harness of Amends' own tests, which is built
//! upon it.
//!
//! Authors start at [`kit::Kit`]. Amends' own tests arrange through [`World`], a kit for orders
//! with providers that keep a ledger of their own, act by request or by [`kit::Kit::settle`],
//! assert one fact or a timeline, and end with [`World::finish`], which checks the invariants.

#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

pub mod awaiting;
pub mod booking;
pub mod chance;
pub mod cluster;
pub mod crash;
pub mod crowd;
pub mod detour;
pub mod durable;
pub mod family;
pub mod fuzz;
pub mod gates;
pub mod http;
pub mod improvised;
pub mod invariants;
pub mod kit;
pub mod orders;
pub mod packing;
pub mod pooler;
pub mod process;
pub mod providers;
pub mod receiver;
pub mod scripted;
pub mod shop;
pub mod shopify;
pub mod sink;
pub mod standby;
pub mod timeline;
pub mod told;

mod world;

pub use kit::Zombie;
pub use world::{World, WorldBuilder, start_request};
