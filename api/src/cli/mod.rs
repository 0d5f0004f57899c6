//! The command line: what can be typed, and what each outcome exits with.

mod acknowledge_loss;
mod bench;
mod book;
mod cancel;
mod check;
mod client;
mod command;
mod deliveries;
mod demo;
mod dependencies;
mod doctor;
mod events;
mod instances;
mod intake;
mod log;
mod migrate;
mod preview;
mod resolve;
mod sandbox;
mod schedules;
mod secrets;
mod serve;
mod show;
mod signal;
mod stop;
mod table;
mod terminate;
mod verify;
mod workflows;

use std::process::ExitCode;

use amends::command::Command;
use amends_api::config::Problems;
use amends_api::log::last_words;
use check::Unchecked;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Durable workflows for orders, which make amends when something goes wrong
#[derive(Parser)]
#[command(name = "amends", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    subcommand: Chosen,
}

#[derive(Subcommand)]
enum Chosen {
    /// Show what happens to orders, with nothing set up
    Demo(demo::Arguments),
    /// Run the server
    Serve(Box<serve::Arguments>),
    /// Run stand-ins for the providers, to try things out
    Sandbox(sandbox::Arguments),
    /// Look at instances
    #[command(subcommand)]
    Instances(instances::Subcommand),
    /// Show what a command would do to an instance; nothing of it happens
    Preview(preview::Arguments),
    /// Let an instance go on that is stuck or waiting
    Resume(command::Arguments),
    /// Have an instance make its next attempt now
    Retry(command::Arguments),
    /// Undo what an instance has done, and end it
    Cancel(cancel::Arguments),
    /// Tell a stuck instance what you have found out, and have it go on
    Resolve(resolve::Arguments),
    /// Count money that has moved outside, such as a refund that was made by hand
    Book(book::Arguments),
    /// Have an instance begin nothing more until it is released
    Hold(command::Arguments),
    /// Let an instance go on that is held
    Release(command::Arguments),
    /// End an instance by force; nothing is undone
    Terminate(terminate::Arguments),
    /// Send news to an instance, also before it is started
    Signal(signal::Arguments),
    /// Show which versions of workflows have live instances, and which can be removed
    Workflows(workflows::Arguments),
    /// Show what steps call, whether it is up, and how many instances wait for it
    Dependencies(dependencies::Arguments),
    /// Look at events that cannot be delivered, and try them again or skip them
    #[command(subcommand)]
    Events(events::Subcommand),
    /// Look at what came in, and have carried out after all what could not be
    #[command(subcommand)]
    Deliveries(deliveries::Subcommand),
    /// Look at deliveries that a person has to decide about, and settle them
    #[command(subcommand)]
    Intake(intake::Subcommand),
    /// Check that this build can go on with every live instance in the database
    Check(check::Arguments),
    /// Look at schedules, and pause, resume or fire them
    #[command(subcommand)]
    Schedules(schedules::Subcommand),
    /// Bring the schema of the database up to date, as its owner
    Migrate(migrate::Arguments),
    /// Say that you know of commits that the database has lost, so that orders are taken in again
    AcknowledgeLoss(acknowledge_loss::Arguments),
    /// Check that every history in the database is as it was written
    Verify(verify::Arguments),
    /// Look at the database and at those who use it, and say what is to be done
    Doctor(doctor::Arguments),
    /// Tell what an order costs
    Bench(bench::Arguments),
}

/// Does what was typed. What went wrong is told on standard error, once.
pub(crate) async fn run() -> ExitCode {
    let typed = CommandLine::command().get_matches();
    if let Some(refusal) = secrets::refusal(&typed) {
        last_words(format!("amends: {refusal}"));
        return ExitCode::from(2);
    }
    let line = CommandLine::from_arg_matches(&typed).unwrap_or_else(|error| error.exit());
    let outcome = match line.subcommand {
        Chosen::Demo(arguments) => demo::run(arguments).await,
        Chosen::Serve(arguments) => serve::run(*arguments).await,
        Chosen::Sandbox(arguments) => sandbox::run(arguments).await,
        Chosen::Instances(subcommand) => instances::run(subcommand).await,
        Chosen::Preview(arguments) => preview::run(arguments).await,
        Chosen::Resume(arguments) => command::run(Command::Resume, arguments).await,
        Chosen::Retry(arguments) => command::run(Command::Retry, arguments).await,
        Chosen::Cancel(arguments) => cancel::run(arguments).await,
        Chosen::Resolve(arguments) => resolve::run(arguments).await,
        Chosen::Book(arguments) => book::run(arguments).await,
        Chosen::Hold(arguments) => command::run(Command::Hold, arguments).await,
        Chosen::Release(arguments) => command::run(Command::Release, arguments).await,
        Chosen::Terminate(arguments) => terminate::run(arguments).await,
        Chosen::Signal(arguments) => signal::run(arguments).await,
        Chosen::Workflows(arguments) => workflows::run(arguments).await,
        Chosen::Dependencies(arguments) => dependencies::run(arguments).await,
        Chosen::Events(subcommand) => events::run(subcommand).await,
        Chosen::Deliveries(subcommand) => deliveries::run(subcommand).await,
        Chosen::Intake(subcommand) => intake::run(subcommand).await,
        Chosen::Check(arguments) => check::run(arguments).await,
        Chosen::Schedules(subcommand) => schedules::run(subcommand).await,
        Chosen::Migrate(arguments) => migrate::run(arguments).await,
        Chosen::AcknowledgeLoss(arguments) => acknowledge_loss::run(arguments).await,
        Chosen::Verify(arguments) => verify::run(arguments).await,
        Chosen::Doctor(arguments) => doctor::run(arguments).await,
        Chosen::Bench(arguments) => bench::run(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Problems>() || error.is::<Unchecked>() => {
            last_words(format!("amends: {error:#}"));
            ExitCode::from(2)
        }
        Err(error) => {
            last_words(format!("amends: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }
}
