//! A workflow that is carried out by a family: it takes a deposit, and has two parcels packed and
//! handed over by children, each of which has a point of no return of its own.

mod deposit;
mod parcel;

use std::sync::Arc;

use amends::{EngineBuilder, Halt, Imbalance, Ledger, Money, Outcome, Saga, Steps, Workflow};
use amends_workflows::ports::Ports;
use serde::{Deserialize, Serialize};

use crate::money;
use crate::pace::Pace;
use crate::provider::Provider;
use deposit::Deposit;
pub(crate) use parcel::Parcelling;

/// What the children are called; their business keys end so.
const PARCELS: [&str; 2] = ["parcel-1", "parcel-2"];

/// What is to be dispatched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Dispatch {
    pub(crate) order_id: String,
    pub(crate) total: Money,
    /// The customer does not wait for a second attempt to take the deposit.
    is_impatient: bool,
}

impl Dispatch {
    /// Every other customer is impatient.
    pub(crate) fn of(order_id: String, total: Money) -> Self {
        Self { order_id, total, is_impatient: total.amount_minor % 2 == 0 }
    }
}

/// The workflow.
pub(crate) struct Dispatching {
    deposit: Deposit,
}

/// Adds the workflow and that of its children.
pub(crate) fn register(
    engine: EngineBuilder,
    ports: Ports,
    providers_url: &str,
    pace: Pace,
) -> anyhow::Result<EngineBuilder> {
    let provider = Arc::new(Provider::try_new(providers_url)?);
    let deposit = Deposit { provider, settles: pace.settles() };
    Ok(engine.workflow(Parcelling::new(ports)).workflow(Dispatching { deposit }))
}

impl Workflow for Dispatching {
    const NAME: &'static str = "dispatching";
    const VERSION: u32 = 1;
    type Input = Dispatch;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new().step(&self.deposit)
    }

    async fn run(&self, saga: &Saga, order: Dispatch) -> Result<(), Halt> {
        saga.run(&self.deposit, &order).await?;
        let mut parcels = Vec::new();
        for name in PARCELS {
            let business_key = format!("{}/{name}", order.order_id);
            parcels.push(saga.start_child::<Parcelling>(name, &business_key).await?);
        }
        for parcel in &parcels {
            parcel.output().await?;
        }
        Ok(())
    }

    fn balanced(
        &self,
        outcome: Outcome,
        order: &Dispatch,
        ledger: &Ledger,
    ) -> Result<(), Imbalance> {
        money::balanced(outcome, order.total, ledger)
    }
}
