//! Stock in the engine's own database: what is reserved, sold and put back commits together with the
//! step's record, so it happens exactly once and nothing is sold twice.
//!
//! Every step locks the rows of its articles first, in the order of their numbers, so that no two of
//! them wait for each other.

mod hold;
mod put_back;
mod sell;

use std::collections::BTreeMap;

use amends::{PgConnection, StepError};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::order::Item;

pub use hold::{Held, HoldRequest, HoldStock};
pub use put_back::{PutBackRequest, PutBackStock};
pub use sell::{SaleRequest, SellStock};

/// Pieces by article, in the order in which their rows are locked.
type Pieces = BTreeMap<String, i32>;

fn pieces<'a>(items: impl IntoIterator<Item = &'a Item>) -> Pieces {
    let mut pieces = Pieces::new();
    for Item { sku, quantity } in items {
        let sum = pieces.entry(sku.clone()).or_default();
        *sum = i32::try_from(*quantity).map_or(i32::MAX, |more| sum.saturating_add(more));
    }
    pieces
}

/// Locks the rows of these articles, until the step is committed.
async fn lock(connection: &mut PgConnection, pieces: &Pieces) -> Result<(), StepError> {
    let skus: Vec<_> = pieces.keys().collect();
    let lock = "select sku from amends.stock where sku = any($1) order by sku for update";
    sqlx::query(lock).bind(skus).execute(connection).await?;
    Ok(())
}

/// Lets go of what other instances have of an article for longer than was promised.
async fn let_go_of_overdue(
    connection: &mut PgConnection,
    sku: &str,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let let_go = "with overdue as (
            delete from amends.stock_reservation where sku = $1 and kept_until <= $2
            returning quantity
        )
        update amends.stock
        set reserved = reserved - (select coalesce(sum(quantity), 0) from overdue)
        where sku = $1";
    sqlx::query(let_go).bind(sku).bind(now).execute(connection).await?;
    Ok(())
}

/// Lets go of what an instance has reserved. Returns what that was; nothing, if it was sold, or if
/// others needed it after it was overdue.
async fn let_go(connection: &mut PgConnection, instance_id: Uuid) -> Result<Pieces, StepError> {
    let let_go = "with its as (
            delete from amends.stock_reservation where instance_id = $1 returning sku, quantity
        ), freed as (
            update amends.stock s set reserved = s.reserved - its.quantity
            from its where s.sku = its.sku
        )
        select sku, quantity from its";
    let its: Vec<(String, i32)> =
        sqlx::query_as(let_go).bind(instance_id).fetch_all(connection).await?;
    Ok(its.into_iter().collect())
}
