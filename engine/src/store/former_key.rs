//! Instances whose business key was spelt otherwise when they were started.
//!
//! Filled by a migration and never added to, so a process that finds none need not ask again.

use crate::store::Pool;
/// Whether there are any.
pub(crate) async fn any_former_key(pool: &Pool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"select exists (select from amends.former_key) as "any!""#)
        .fetch_one(pool)
        .await
}

/// The key that the instance of `business_key` was started with, if it was spelt otherwise.
pub(crate) async fn stored_key(
    pool: &Pool,
    workflow: &str,
    business_key: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "select stored_key from amends.former_key where workflow = $1 and business_key = $2",
        workflow,
        business_key,
    )
    .fetch_optional(pool)
    .await
}
