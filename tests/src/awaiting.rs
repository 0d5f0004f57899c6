//! A workflow that waits for a signal, and then for time.

use std::time::Duration;

use amends::{Halt, Saga, Signal, Signals, Start, Steps, Workflow};
use serde::{Deserialize, Serialize};

/// How long the signal is waited for.
pub const PATIENCE: Duration = Duration::from_secs(3600);
/// How long is slept afterwards.
pub const REST: Duration = Duration::from_secs(600);

/// News that a parcel is packed.
#[derive(Debug, Serialize, Deserialize)]
pub struct ParcelPacked {
    /// Which parcel.
    pub parcel: String,
}

impl Signal for ParcelPacked {
    const NAME: &'static str = "parcel_packed";
}

/// The workflow. It answers which parcel was packed, if one was in time.
pub struct Packing;

impl Workflow for Packing {
    const NAME: &'static str = "packing";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = Option<String>;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<ParcelPacked>()
    }

    async fn run(&self, saga: &Saga, (): ()) -> Result<Option<String>, Halt> {
        let packed = saga.wait::<ParcelPacked>(PATIENCE).await?;
        saga.sleep(REST).await?;
        Ok(packed.map(|packed| packed.parcel))
    }
}

/// A request to start it.
#[must_use]
pub fn start(business_key: &str) -> Start {
    Start {
        workflow: Packing::NAME,
        business_key: business_key.to_owned(),
        input: "null".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}
