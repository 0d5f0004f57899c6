//! `amends dependencies`: what steps call, how it does, and how many instances wait for it.

use amends_api::view::{Dependencies, Dependency};

use super::client::{self, Client};
use super::table::{printable, seconds};

/// What `amends dependencies` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: client::Arguments,
}

/// Shows the dependencies that a server knows of.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = Client::try_new(arguments.client)?;
    let body = client.get(&["dependencies"], &[]).await?;
    client.tell(&body, |found: &Dependencies| rendered(&found.items))
}

fn rendered(dependencies: &[Dependency]) -> String {
    if dependencies.is_empty() {
        return "no step names what it calls".to_owned();
    }
    dependencies.iter().map(sentence).collect::<Vec<_>>().join("\n")
}

/// `412 orders wait for carrier since ..: it is down (PROVIDER_DOWN: ..), next try at ..`
fn sentence(dependency: &Dependency) -> String {
    let name = printable(&dependency.name);
    let (verb, instances) = match dependency.waiting {
        0 => ("waits", "nobody".to_owned()),
        1 => ("waits", "1 instance".to_owned()),
        count => ("wait", format!("{count} instances")),
    };
    let since = seconds(dependency.since);
    if dependency.state == "up" {
        return format!("{name} is up since {since}; {instances} {verb} for it");
    }
    let state = printable(&dependency.state);
    let why = dependency.failure.as_ref().map_or_else(String::new, |failure| {
        format!(" ({}: {})", printable(&failure.code), printable(&failure.message))
    });
    let next = dependency
        .next_try_at
        .map_or_else(String::new, |at| format!("; it is looked after next at {}", seconds(at)));
    format!("{instances} {verb} for {name} since {since}: it is {state}{why}{next}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outage_is_one_sentence() {
        let up = json!({
            "name": "payment", "state": "up", "since": "2026-11-18T11:06:41Z", "waiting": 0,
        });
        let down = json!({
            "name": "carrier", "state": "down", "since": "2026-11-18T14:02:00Z", "waiting": 412,
            "failure": {"code": "PROVIDER_DOWN", "message": "503"},
            "next_try_at": "2026-11-18T14:03:00Z",
        });
        let read = |value| serde_json::from_value(value).expect("a dependency");
        insta::assert_snapshot!(rendered(&[read(up), read(down)]), @r"
        payment is up since 2026-11-18T11:06:41Z; nobody waits for it
        412 instances wait for carrier since 2026-11-18T14:02:00Z: it is down (PROVIDER_DOWN: 503); it is looked after next at 2026-11-18T14:03:00Z
        ");
    }
}
