//! The schema, for who looks after it and is no worker.

use sqlx::postgres::PgConnectOptions;

use crate::clock::Clock;
use crate::error::Error;
use crate::store::Store;

/// Applies the migrations that are missing, without becoming a worker.
pub async fn migrate(options: PgConnectOptions) -> Result<(), Error> {
    Store::new(options).migrate(Clock::system()).await
}

/// Lets a role do what servers do, and nothing else, on a database whose migrations are applied. The
/// role has to be there. Safe to repeat; a new migration makes it necessary to.
pub async fn grant(options: PgConnectOptions, role: &str) -> Result<(), Error> {
    Store::new(options).grant(role).await
}
