//! What a test may see of instances.

use amends::view::{Filter, InstanceView, RecordView};
use amends::{Ledger, Movement, Status, Workflow};
use serde_json::Value;
use uuid::Uuid;

use super::Kit;
use crate::timeline;

impl Kit {
    /// The instance as it stands.
    pub async fn instance(&self, instance_id: Uuid) -> InstanceView {
        let found = self.ask(async |engine| engine.instance(instance_id).await).await;
        found.expect("it can be read").expect("it exists")
    }

    /// The instances of a workflow, newest first; 200 at most.
    pub async fn instances<W: Workflow>(&self) -> Vec<InstanceView> {
        let workflow = Some(W::NAME.to_owned());
        let filter = Filter { workflow, limit: 200, ..Filter::default() };
        let found = self.ask(async |engine| engine.instances(&filter).await).await;
        found.expect("they can be read")
    }

    /// Where the instance stands.
    pub async fn status(&self, instance_id: Uuid) -> Status {
        self.instance(instance_id).await.status
    }

    /// The records of an instance.
    pub async fn history(&self, instance_id: Uuid) -> Vec<RecordView> {
        let found = self.ask(async |engine| engine.history(instance_id).await).await;
        found.expect("it can be read")
    }

    /// The instance and its history as text.
    pub async fn timeline(&self, instance_id: Uuid) -> String {
        timeline::render(&self.instance(instance_id).await, &self.history(instance_id).await)
    }

    /// What a completed instance has answered.
    pub async fn output<W: Workflow>(&self, instance_id: Uuid) -> W::Output {
        let payloads = payloads(&self.history(instance_id).await);
        let output = payloads.last().map(|payload| payload["output"].clone()).unwrap_or_default();
        serde_json::from_value(output)
            .unwrap_or_else(|error| panic!("{instance_id} has no output of this sort: {error}"))
    }

    /// The money that an instance has moved.
    pub async fn ledger(&self, instance_id: Uuid) -> Ledger {
        let payloads = payloads(&self.history(instance_id).await);
        let money = payloads.into_iter().filter_map(|mut payload| {
            let money = payload.get_mut("money").map(Value::take)?;
            Some(serde_json::from_value::<Vec<Movement>>(money).expect("movements are recorded"))
        });
        Ledger::of(money.flatten().collect())
    }
}

fn payloads(history: &[RecordView]) -> Vec<Value> {
    let payload = |record: &RecordView| serde_json::from_str(record.payload.get());
    history.iter().map(|record| payload(record).expect("a payload is JSON")).collect()
}
