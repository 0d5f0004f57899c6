//! What a test does to instances: start them, tell them, command them.

use std::sync::atomic::Ordering;

use amends::command::{Answer, Command};
use amends::{
    Engine, Priority, Requester, SendSignal, Signal, Signalled, Start, Started, Workflow,
};
use uuid::Uuid;

use super::Kit;

impl Kit {
    /// Starts an instance. Nothing of it has run yet when this returns.
    pub async fn start<W: Workflow>(&self, business_key: &str, input: &W::Input) -> Uuid {
        let start = Start {
            workflow: W::NAME,
            business_key: business_key.to_owned(),
            input: serde_json::to_string(input).expect("an input is JSON"),
            delivery: None,
            priority: Priority::Normal,
        };
        self.begin(start).await
    }

    /// Starts an instance by a request of any sort.
    pub async fn begin(&self, start: Start) -> Uuid {
        let business_key = start.business_key.clone();
        match self.request(start).await {
            Ok(Started::New(instance_id)) => instance_id,
            Ok(Started::Duplicate(instance_id) | Started::Replayed(instance_id))
                if self.has_repeated() =>
            {
                instance_id
            }
            other => panic!("{business_key} did not start: {other:?}"),
        }
    }

    /// Asks for an instance with whatever comes of it, and asks again if there was no answer.
    pub async fn request(&self, start: Start) -> Result<Started, amends::Error> {
        self.ask(async |engine| engine.start(start.clone()).await).await
    }

    /// Sends a signal to an instance.
    pub async fn signal<S: Signal>(&self, instance_id: Uuid, signal: &S) -> Signalled {
        let instance = self.instance(instance_id).await;
        let number = self.signals.fetch_add(1, Ordering::Relaxed);
        let send = SendSignal {
            workflow: instance.workflow,
            business_key: instance.business_key,
            name: S::NAME.to_owned(),
            body: serde_json::to_string(signal).expect("a signal is JSON"),
            sender: "the test".to_owned(),
            signal_id: Some(format!("signal {number} of the test")),
        };
        let sent = self.ask(async |engine| engine.signal(send.clone()).await).await;
        match sent.expect("the signal is taken") {
            Signalled::Replayed(instance_id) if self.has_repeated() => {
                Signalled::Accepted(instance_id)
            }
            signalled => signalled,
        }
    }

    /// Gives a command as Anna of support.
    pub async fn command(&self, instance_id: Uuid, command: Command) -> Answer {
        let reason = "asked by the customer";
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request = format!("request {number} of the test");
        let anna = Requester::new("anna").request(&request);
        self.give(instance_id, async |engine| {
            engine.command(instance_id, command, anna, reason).await
        })
        .await
    }

    /// Gives a command in whatever way. Who gets no answer looks whether there is one on record,
    /// and else gives it once more.
    pub async fn give(
        &self,
        instance_id: Uuid,
        act: impl AsyncFn(Engine) -> Result<Option<Answer>, amends::Error>,
    ) -> Answer {
        let before = self.answers(instance_id).await;
        // Not to be repeated after a crash; and nothing in it stops at a probe point.
        let mut given = act(self.engine()).await;
        while given.is_err() && self.has_repeated() {
            if let Some(answer) = self.answers(instance_id).await.into_iter().nth(before.len()) {
                return serde_json::from_value(answer.into()).expect("it is one of the answers");
            }
            given = act(self.engine()).await;
        }
        given.expect("the command is judged").expect("the instance exists")
    }

    /// What people were answered about an instance, in order.
    async fn answers(&self, instance_id: Uuid) -> Vec<String> {
        let answers = "select answer from amends.command where instance_id = $1
                       order by command_id";
        sqlx::query_scalar(answers)
            .bind(instance_id)
            .fetch_all(&self.ground.past_the_engine)
            .await
            .expect("commands can be read")
    }
}
