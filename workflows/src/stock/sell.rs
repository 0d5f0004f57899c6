//! Takes what is packed out of the stock; undone by putting it back.

use amends::{
    Call, Declaration, InTransaction, PgConnection, StepError, TransactionStep, TransactionUndo,
    Undone,
};
use serde::{Deserialize, Serialize};

use super::put_back::put_back;
use super::{let_go, let_go_of_overdue, lock, pieces};
use crate::failure::OUT_OF_STOCK;
use crate::order::Item;

/// The step that takes pieces out of the stock.
#[derive(Clone)]
pub struct SellStock;

/// What is to be taken out. Together it is what was reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleRequest {
    /// What is in the parcels.
    pub items: Vec<Item>,
    /// What was not to be found: it is written off, or the next order would be promised it.
    pub missing: Vec<Item>,
}

impl TransactionStep for SellStock {
    const NAME: &'static str = "sell_stock";
    type Input = SaleRequest;
    type Output = ();

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().undo()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        input: &SaleRequest,
    ) -> Result<(), StepError> {
        let taken = pieces(input.items.iter().chain(&input.missing));
        lock(connection, &taken).await?;
        // Others may have needed it after it was overdue; then it is sold only if there is more.
        let_go(connection, call.instance_id).await?;
        for (sku, quantity) in &taken {
            if take_out(connection, sku, *quantity).await? {
                continue;
            }
            let_go_of_overdue(connection, sku, call.now).await?;
            if !take_out(connection, sku, *quantity).await? {
                let message = format!("{sku} was reserved for too long, and others have it now");
                return Err(StepError::fail(OUT_OF_STOCK, message));
            }
        }
        Ok(())
    }
}

async fn take_out(
    connection: &mut PgConnection,
    sku: &str,
    quantity: i32,
) -> Result<bool, StepError> {
    let take_out = "update amends.stock set on_hand = on_hand - $2
                    where sku = $1 and on_hand - reserved >= $2";
    let taken = sqlx::query(take_out).bind(sku).bind(quantity).execute(connection).await?;
    Ok(taken.rows_affected() == 1)
}

impl TransactionUndo for SellStock {
    async fn undo(
        &self,
        connection: &mut PgConnection,
        _: &Call,
        input: &SaleRequest,
        (): &(),
    ) -> Result<Undone, StepError> {
        put_back(connection, &pieces(&input.items)).await?;
        Ok(Undone::by("stock"))
    }
}
