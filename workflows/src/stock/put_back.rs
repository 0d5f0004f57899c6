//! Puts pieces back that were sold and have not left the house.

use amends::{
    Call, Declaration, InTransaction, PgConnection, RetryPolicy, StepError, TransactionStep,
};
use serde::{Deserialize, Serialize};

use super::{Pieces, lock, pieces};
use crate::order::Item;

/// The step that puts pieces back, because no carrier has taken them.
#[derive(Clone)]
pub struct PutBackStock;

/// What is to be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBackRequest {
    /// Articles and quantities.
    pub items: Vec<Item>,
}

impl TransactionStep for PutBackStock {
    const NAME: &'static str = "put_back_stock";
    type Input = PutBackRequest;
    type Output = ();

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().nothing_to_undo().retry(RetryPolicy::persistent())
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        _: &Call,
        input: &PutBackRequest,
    ) -> Result<(), StepError> {
        put_back(connection, &pieces(&input.items)).await
    }
}

pub(super) async fn put_back(
    connection: &mut PgConnection,
    pieces: &Pieces,
) -> Result<(), StepError> {
    lock(connection, pieces).await?;
    for (sku, quantity) in pieces {
        let put_back = "update amends.stock set on_hand = on_hand + $2 where sku = $1";
        sqlx::query(put_back).bind(sku).bind(quantity).execute(&mut *connection).await?;
    }
    Ok(())
}
