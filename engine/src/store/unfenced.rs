//! The bug [`crate::sabotage::Bug::ClaimUnfenced`]: a commit that its worker's row alone fences.

use sqlx::postgres::Postgres;
use sqlx::{AssertSqlSafe, Execute, PgConnection};
use uuid::Uuid;

use super::commit::Committed;

/// What is left out of the statement, and what is put there instead.
const LEFT_OUT: [(&str, &str); 3] = [
    (
        "
      and i.claim_id = h.claim_id
      and (select true from amends.record r
           where r.instance_id = h.instance_id and r.seq >= h.first_seq
           limit 1) is null
",
        "\n",
    ),
    (
        "
      and i.claim_id = c.claim_id
      and i.revision = c.revision - 1
      and (select true from amends.record r
           where r.instance_id = c.instance_id and r.seq >= c.first_seq
           limit 1) is null
",
        "\n",
    ),
    (
        "
    returning instance_id, seq
",
        "
    on conflict do nothing
    returning instance_id, seq
",
    ),
];

/// Sends the commit without what names the claim and the revision, and passes over records that
/// are there already.
pub(super) async fn commit<'q>(
    connection: &mut PgConnection,
    mut commit: impl Execute<'q, Postgres>,
) -> Result<Committed, sqlx::Error> {
    let arguments = commit.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let mut sql = commit.sql().as_str().to_owned();
    for (fence, instead) in LEFT_OUT {
        assert!(sql.contains(fence), "the statement has changed: {fence}");
        sql = sql.replace(fence, instead);
    }
    let unfenced = sqlx::query_as_with(AssertSqlSafe(sql), arguments);
    let row: (bool, Vec<Uuid>, Vec<Uuid>) = unfenced.fetch_one(connection).await?;
    Ok(Committed::of(row))
}
