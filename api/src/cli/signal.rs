//! `amends signal`: sends news to the instance of a business key.

use amends_api::signals::send::{SignalAnswer, SignalOutcome, SignalRequest};
use serde_json::value::RawValue;

use super::client::{self, Client};

/// Which news, and for whom.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The workflow of the instance
    workflow: String,
    /// What the instance is about, such as shop/order
    business_key: String,
    /// Which signal; the workflow says which there are
    signal: String,
    /// What it says
    #[arg(long, value_name = "JSON", value_parser = json)]
    body: Option<Box<RawValue>>,
    /// Your own id for it: the same id is taken once, however often it is sent
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    client: client::Arguments,
}

/// Sends the signal. One that comes too late is no error: to send it again would change nothing.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { workflow, business_key, signal, body, id: signal_id, client } = arguments;
    let request = SignalRequest { workflow, business_key, signal, body, signal_id };
    let client = Client::try_new(client)?;
    let body = client.post(&["signals"], &request).await?;
    client.tell(&body, rendered)
}

fn rendered(answer: &SignalAnswer) -> String {
    let instance = answer.instance_id.map_or_else(String::new, |id| format!("instance {id}"));
    match answer.outcome {
        SignalOutcome::Accepted => format!("accepted: {instance} will read it"),
        SignalOutcome::Kept => {
            "kept: there is no such instance yet; it will be read by the one that is started"
                .to_owned()
        }
        SignalOutcome::Replayed => format!("accepted before: {instance} had it under this id"),
        SignalOutcome::AlreadyEnded => {
            format!("too late: {instance} has ended; nothing is stored")
        }
    }
}

fn json(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}
