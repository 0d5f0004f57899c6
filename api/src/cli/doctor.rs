//! `amends doctor`: looks at a database and at those who use it, or has a server do so, and says what
//! is to be done.

use amends::doctor::{self, Finding};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::client::{Client, TokenArguments};
use super::log::{self, Level};
use super::stop;
use super::table::{print, printable, rendered, table};

/// What `amends doctor` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// Have this server look at itself and at its database, in place of looking at the database
    /// from here. AMENDS_SERVER alone does not do that
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    token: TokenArguments,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: log::Arguments,
}

/// What a server answers.
#[derive(Deserialize)]
struct Examination {
    items: Vec<Line>,
}

/// What was found, for machines.
#[derive(Serialize, Deserialize)]
struct Line {
    about: String,
    severity: String,
    found: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    advice: String,
}

/// Looks at everything; a problem is an error, a note is not.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let findings = match &arguments.server {
        Some(server) => from_server(&Client::of(server, arguments.token)?).await?,
        None => from_database(&Database::try_from(arguments.database)?).await?,
    };
    print(&if arguments.json { serde_json::to_string(&findings)? } else { in_words(&findings) });
    match findings.iter().filter(|it| it.severity == doctor::Severity::Problem.as_str()).count() {
        0 => Ok(()),
        1 => bail!("there is 1 problem"),
        problems => bail!("there are {problems} problems"),
    }
}

async fn from_server(client: &Client) -> anyhow::Result<Vec<Line>> {
    let answer = client.get(&["doctor"], &[]).await?;
    let examination: Examination =
        serde_json::from_str(&answer).context("the answer cannot be read")?;
    Ok(examination.items)
}

async fn from_database(database: &Database) -> anyhow::Result<Vec<Line>> {
    let shutdown = stop::asked()?;
    let findings = database::with(database, async |database| {
        tokio::select! {
            findings = doctor::examine(database) => Ok(findings?),
            () = shutdown => bail!("stopped before the end"),
        }
    });
    Ok(findings.await?.into_iter().map(Line::from).collect())
}

impl From<Finding> for Line {
    fn from(finding: Finding) -> Self {
        let Finding { about, severity, found, advice } = finding;
        let [about, severity, advice] = [about, severity.as_str(), advice].map(str::to_owned);
        Self { about, severity, found, advice }
    }
}

fn in_words(findings: &[Line]) -> String {
    let mut table = table(None);
    for Line { about, severity, found, advice } in findings {
        table.add_row([severity, about, found].map(|it| printable(it)));
        if !advice.is_empty() {
            table.add_row(["", "", &format!("-> {}", printable(advice))]);
        }
    }
    rendered(table)
}

#[cfg(test)]
mod tests {
    use amends::doctor::Severity;

    use super::*;

    #[test]
    fn what_is_to_be_done_stands_below_what_was_found() {
        let finding = |about, severity, found: &str, advice| {
            Line::from(Finding { about, severity, found: found.to_owned(), advice })
        };
        let findings = [
            finding("schema", Severity::Fine, "every migration is applied", ""),
            finding("workers", Severity::Problem, "no server is at work", "start one"),
        ];
        insta::assert_snapshot!(in_words(&findings), @r"
        fine     schema   every migration is applied
        problem  workers  no server is at work
                          -> start one
        ");
    }
}
