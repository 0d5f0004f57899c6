//! Which database this is.

use uuid::Uuid;

use super::Pool;

/// Whether the database answers.
pub(crate) async fn answer(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("select 1 as one").fetch_one(pool).await?;
    Ok(())
}

/// The id that this database has, and no other.
pub(super) async fn database_id(pool: &Pool) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar!("select database_id from amends.identity").fetch_one(pool).await
}
