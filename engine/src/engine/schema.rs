//! The schema, for who looks after it and is no worker.

use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Access, Address, Purpose, Store, refusal, version};

/// Opens a session with the database, and ends it. Says which Postgres it is: its version in words,
/// and the number before the point.
pub async fn reach(address: impl Into<Address>, access: Access) -> Result<(String, i32), Error> {
    let store = match access {
        Access::ReadWrite => Store::new(address),
        Access::ReadOnly => Store::read_only(address),
    };
    let mut session = store.connect(Purpose::Alone).await.map_err(refusal)?;
    let version = version(&mut session).await?;
    session.close().await?;
    Ok(version)
}

/// Applies the migrations that are missing, without becoming a worker.
pub async fn migrate(address: impl Into<Address>) -> Result<(), Error> {
    Store::new(address).migrate(Clock::system()).await
}

/// Lets a role do what servers do, and nothing else, on a database whose migrations are applied. The
/// role has to be there. Safe to repeat; a new migration makes it necessary to.
pub async fn grant(address: impl Into<Address>, role: &str) -> Result<(), Error> {
    Store::new(address).grant(role).await
}
