//! `amends schedules list`, `show`, `pause`, `resume`, `trigger` and `backfill`

use amends::Priority;
use amends_api::schedules::command::{ScheduleCommandAccepted, ScheduleCommandRequest};
use amends_api::schedules::view::{Firing, Schedule, ScheduleCommand, ScheduleDetail, Schedules};
use chrono::{DateTime, FixedOffset, Utc};

use super::client::{self, Client};
use super::table::{self, printable, seconds, table};

/// What to do with schedules.
#[derive(clap::Subcommand)]
pub(crate) enum Subcommand {
    /// List all schedules
    List(List),
    /// Show a schedule, its latest firings, and what people asked of it
    Show(Show),
    /// Let nothing fire by the clock until it is resumed
    Pause(Command),
    /// Let the clock count again
    Resume(Command),
    /// Fire now, also while it is paused
    Trigger(Command),
    /// Fire for times in the past that have not fired
    Backfill(Backfill),
}

/// How to list.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct List {
    #[command(flatten)]
    client: client::Arguments,
}

/// What to show.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Show {
    /// The schedule
    name: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Which schedule, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Command {
    /// The schedule
    name: String,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Which times, of which schedule, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Backfill {
    #[command(flatten)]
    command: Command,
    /// Firings at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    from: DateTime<FixedOffset>,
    /// Firings at this time (RFC 3339) or earlier
    #[arg(long, value_name = "TIME")]
    until: DateTime<FixedOffset>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// Looks or asks. A refusal is an error, in the server's words.
pub(crate) async fn run(subcommand: Subcommand) -> anyhow::Result<()> {
    match subcommand {
        Subcommand::List(arguments) => list(arguments).await,
        Subcommand::Show(arguments) => show(arguments).await,
        Subcommand::Pause(command) => ask(command, "pause", None).await,
        Subcommand::Resume(command) => ask(command, "resume", None).await,
        Subcommand::Trigger(command) => ask(command, "trigger", None).await,
        Subcommand::Backfill(Backfill { command, from, until, dry_run }) => {
            let span = Span { from: from.to_utc(), until: until.to_utc(), dry_run };
            ask(command, "backfill", Some(span)).await
        }
    }
}

struct Span {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    dry_run: bool,
}

async fn list(arguments: List) -> anyhow::Result<()> {
    let client = Client::try_new(arguments.client)?;
    let body = client.get(&["schedules"], &[]).await?;
    client.tell(&body, |schedules: &Schedules| listed(&schedules.items))
}

async fn show(arguments: Show) -> anyhow::Result<()> {
    let client = Client::try_new(arguments.client)?;
    let body = client.get(&["schedules", &arguments.name], &[]).await?;
    client.tell(&body, shown)
}

async fn ask(arguments: Command, command: &str, span: Option<Span>) -> anyhow::Result<()> {
    let request = ScheduleCommandRequest {
        command: command.to_owned(),
        reason: arguments.reason,
        from: span.as_ref().map(|span| span.from),
        until: span.as_ref().map(|span| span.until),
        dry_run: span.as_ref().is_some_and(|span| span.dry_run),
    };
    let client = Client::try_new(arguments.client)?;
    let body = client.post(&["schedules", &arguments.name, "commands"], &request).await?;
    client.tell(&body, |accepted| told(&request, accepted))
}

fn told(request: &ScheduleCommandRequest, accepted: &ScheduleCommandAccepted) -> String {
    let ScheduleCommandAccepted { planned, already, .. } = accepted;
    match request.command.as_str() {
        "backfill" if request.dry_run => {
            format!("{planned} firings would start; {already} have fired, or will anyway")
        }
        "backfill" => format!("{planned} firings will start; {already} have fired, or will anyway"),
        command => format!("accepted: {command} will happen"),
    }
}

fn listed(schedules: &[Schedule]) -> String {
    if schedules.is_empty() {
        return "there are none".to_owned();
    }
    let headings = ["SCHEDULE", "CRON", "ZONE", "WORKFLOW", "NEXT", "LAST FIRED"];
    let mut rows = table(Some(&headings));
    for schedule in schedules {
        rows.add_row([
            printable(&schedule.name),
            printable(&schedule.cron),
            printable(&schedule.zone),
            printable(&schedule.workflow),
            next(schedule),
            schedule.last_fired_at.map(seconds).unwrap_or_default(),
        ]);
    }
    table::rendered(rows)
}

fn next(schedule: &Schedule) -> String {
    if !schedule.is_defined {
        return "never: no process defines it".to_owned();
    }
    if schedule.paused.is_some() {
        return "paused".to_owned();
    }
    schedule.next.first().copied().map(seconds).unwrap_or_default()
}

fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

fn shown(detail: &ScheduleDetail) -> String {
    let schedule = &detail.schedule;
    let mut facts = table(None);
    let mut fact = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    fact("schedule", printable(&schedule.name));
    fact("cron", format!("{} ({})", printable(&schedule.cron), printable(&schedule.zone)));
    fact("starts", printable(&schedule.workflow));
    fact("when missed", printable(&schedule.gap));
    fact("when overlapping", printable(&schedule.overlap));
    fact("priority", priority(schedule.priority).to_owned());
    fact("next", next(schedule));
    if let Some(pause) = &schedule.paused {
        let (by, reason) = (printable(&pause.by), printable(&pause.reason));
        fact("paused", format!("{} by {by}: {reason}", seconds(pause.at)));
    }
    if let Some(missed) = &schedule.missed {
        let before = missed.before.map(seconds).unwrap_or_default();
        fact("let go", format!("from {} to before {before}", seconds(missed.from)));
    }
    let mut firings = table(Some(&["FIRING", "BY", "STATE", "INSTANCE", "FAILURE"]));
    for firing in &detail.firings {
        firings.add_row(fired(firing));
    }
    let mut commands = table(Some(&["COMMAND", "TIME", "BY", "REASON", "ANSWER"]));
    for command in &detail.commands {
        commands.add_row(asked(command));
    }
    [facts, firings, commands].map(table::rendered).join("\n\n")
}

fn fired(firing: &Firing) -> [String; 5] {
    let failure = firing.failure.as_ref();
    [
        seconds(firing.at),
        printable(&firing.kind),
        printable(&firing.state),
        firing.instance_id.map(|id| id.to_string()).unwrap_or_default(),
        failure.map(|failure| printable(&failure.code)).unwrap_or_default(),
    ]
}

fn asked(command: &ScheduleCommand) -> [String; 5] {
    let span = command.from.zip(command.until);
    let span = span.map(|(from, until)| format!(" {} to {}", seconds(from), seconds(until)));
    [
        printable(&command.command) + &span.unwrap_or_default(),
        seconds(command.given_at),
        printable(&command.actor),
        printable(&command.reason),
        printable(&command.answer),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_shown_with_its_firings_and_commands() {
        let detail: ScheduleDetail = serde_json::from_value(serde_json::json!({
            "schedule": {
                "name": "nightly", "cron": "0 2 * * *", "zone": "Europe/Berlin",
                "workflow": "settlement", "gap": "last", "overlap": "skip", "priority": "low",
                "is_defined": true, "next": ["2026-11-23T02:00:00+01:00"],
                "missed": {"from": "2026-11-20T02:00:00+01:00", "before": "2026-11-22T02:00:00+01:00"},
            },
            "firings": [{
                "at": "2026-11-22T02:00:00+01:00", "kind": "due", "state": "skipped",
                "failure": {"code": "PREVIOUS_NOT_ENDED", "message": "it had not"},
            }],
            "commands": [{
                "command": "backfill", "from": "2026-11-20T00:00:00Z",
                "until": "2026-11-21T00:00:00Z", "actor": "anna", "reason": "was down\u{1b}",
                "answer": "accepted", "given_at": "2026-11-22T08:00:00Z",
            }],
        }))
        .expect("a schedule");
        insta::assert_snapshot!(shown(&detail), @r"
        schedule          nightly
        cron              0 2 * * * (Europe/Berlin)
        starts            settlement
        when missed       last
        when overlapping  skip
        priority          low
        next              2026-11-23T02:00:00+01:00
        let go            from 2026-11-20T02:00:00+01:00 to before 2026-11-22T02:00:00+01:00

        FIRING                     BY   STATE    INSTANCE  FAILURE
        2026-11-22T02:00:00+01:00  due  skipped            PREVIOUS_NOT_ENDED

        COMMAND                                                TIME                  BY    REASON          ANSWER
        backfill 2026-11-20T00:00:00Z to 2026-11-21T00:00:00Z  2026-11-22T08:00:00Z  anna  was down\u{1b}  accepted
        ");
        insta::assert_snapshot!(listed(&[detail.schedule]), @r"
        SCHEDULE  CRON       ZONE           WORKFLOW    NEXT                       LAST FIRED
        nightly   0 2 * * *  Europe/Berlin  settlement  2026-11-23T02:00:00+01:00
        ");
    }
}
