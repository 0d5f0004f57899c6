//! Reserves the articles of an order; undone by letting them go.

use amends::{
    Call, Declaration, Event, InTransaction, Moment, PgConnection, StepError, TransactionStep,
    TransactionUndo, Undone,
};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{let_go, let_go_of_overdue, lock, pieces};
use crate::failure::OUT_OF_STOCK;
use crate::order::Item;

/// The step that reserves pieces.
#[derive(Clone)]
pub struct HoldStock;

/// What is to be reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRequest {
    /// The order's business key.
    pub business_key: String,
    /// Articles and quantities.
    pub items: Vec<Item>,
    /// For so long they are certainly kept, in seconds.
    pub keep_for_seconds: u32,
}

/// It is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {}

impl TransactionStep for HoldStock {
    const NAME: &'static str = "hold_stock";
    type Input = HoldRequest;
    type Output = Held;

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().undo()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        input: &HoldRequest,
    ) -> Result<Held, StepError> {
        let wanted = pieces(&input.items);
        lock(connection, &wanted).await?;
        let kept_until = call.now + TimeDelta::seconds(i64::from(input.keep_for_seconds));
        let mut short = Vec::new();
        for (sku, quantity) in &wanted {
            let mut is_held = hold(connection, sku, *quantity).await?;
            if !is_held {
                let_go_of_overdue(connection, sku, call.now).await?;
                is_held = hold(connection, sku, *quantity).await?;
            }
            if is_held {
                let note = "insert into amends.stock_reservation
                                (instance_id, sku, quantity, kept_until)
                            values ($1, $2, $3, $4)";
                let note = sqlx::query(note).bind(call.instance_id).bind(sku).bind(quantity);
                note.bind(kept_until).execute(&mut *connection).await?;
            } else {
                short.push(sku.as_str());
            }
        }
        if short.is_empty() {
            return Ok(Held {});
        }
        Err(StepError::fail(OUT_OF_STOCK, format!("not enough of {}", short.join(", "))))
    }

    fn events(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Event> {
        match moment {
            Moment::Undone { input, undone, .. } if undone.applied => {
                let released = json!({ "business_key": input.business_key });
                vec![Event::new("STOCK_RELEASED", &released)]
            }
            Moment::Done { .. } | Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

async fn hold(connection: &mut PgConnection, sku: &str, quantity: i32) -> Result<bool, StepError> {
    let hold = "update amends.stock set reserved = reserved + $2
                where sku = $1 and on_hand - reserved >= $2";
    let held = sqlx::query(hold).bind(sku).bind(quantity).execute(connection).await?;
    Ok(held.rows_affected() == 1)
}

impl TransactionUndo for HoldStock {
    async fn undo(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        input: &HoldRequest,
        _: &Held,
    ) -> Result<Undone, StepError> {
        lock(connection, &pieces(&input.items)).await?;
        let freed = let_go(connection, call.instance_id).await?;
        Ok(if freed.is_empty() { Undone::nothing() } else { Undone::by("stock") })
    }
}
