//! Tells people what happens, line by line, on standard output.

use std::cell::Cell;
use std::fmt::Display;
use std::io::Write;

use chrono::{DateTime, Utc};
use clap::builder::styling::{AnsiColor, Style};

use super::check::Finding;
use super::stage::{Moved, SERVER_PORT, Stage};
use crate::config::Database;
use crate::timeline::Line;
use crate::view::Record;

/// Whether colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Text only.
    Plain,
    /// On a terminal that shows them.
    Shown,
}

/// Who tells it.
pub(super) struct Teller {
    colours: Colours,
    /// How many parts of the show have begun.
    scenes: Cell<u32>,
}

/// What a line is about, as far as its look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    /// Something was done.
    Done,
    /// Something was undone.
    Undone,
    /// Something went wrong.
    Wrong,
    /// Anything else.
    Neutral,
}

impl Tone {
    fn of(record: &Record) -> Self {
        match record.kind.as_str() {
            "step_done" => Self::Done,
            "step_compensated" => Self::Undone,
            "step_attempt_failed" | "compensation_attempt_failed" | "stuck" => Self::Wrong,
            _ => Self::Neutral,
        }
    }

    fn mark(self) -> char {
        match self {
            Self::Done => '+',
            Self::Undone => '-',
            Self::Wrong => '!',
            Self::Neutral => ' ',
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Done => AnsiColor::Green.on_default(),
            Self::Undone => AnsiColor::Cyan.on_default(),
            Self::Wrong => AnsiColor::Red.on_default(),
            Self::Neutral => Style::new(),
        }
    }
}

impl Teller {
    pub(super) fn new(colours: Colours) -> Self {
        Self { colours, scenes: Cell::new(0) }
    }

    /// Says what is coming, and what takes a moment.
    pub(super) fn opening(&self, database: &Database) {
        self.say("");
        self.heading("Amends: what becomes of orders, also when something goes wrong on the way");
        self.say("The shop's providers are stand-ins; everything else is real.");
        self.say("");
        match database {
            Database::Url(_) => self.say("  database   the one of DATABASE_URL"),
            Database::Embedded { data_dir, .. } => self.say(format!(
                "  database   a private Postgres, kept in {} (the first start takes a little)",
                data_dir.display()
            )),
        }
    }

    /// Says where everything is, and how to read what follows.
    pub(super) fn ready(&self, stage: &Stage) {
        let Stage { server, moved, providers, .. } = stage;
        let why = match moved {
            Moved::No => String::new(),
            Moved::Taken => format!(" (port {SERVER_PORT} is taken by another program)"),
        };
        self.say(format!("  server     http://{server}{why}"));
        self.say(format!(
            "  stand-ins  http://{providers} for stock, invoices, payment, carrier and mail"
        ));
        self.say("");
        let key = |tone: Tone, text| self.styled(tone.style(), format!("{} {text}", tone.mark()));
        self.say(format!(
            "Times count from when an order was accepted.  {}   {}   {}",
            key(Tone::Done, "done"),
            key(Tone::Undone, "undone"),
            key(Tone::Wrong, "went wrong"),
        ));
    }

    /// Begins the next part of the show.
    pub(super) fn scene(&self, title: &str) {
        self.scenes.set(self.scenes.get() + 1);
        self.say("");
        self.heading(&format!("{}. {title}", self.scenes.get()));
    }

    /// Says something between the lines of a timeline.
    pub(super) fn remark(&self, text: &str) {
        self.say(self.styled(Style::new().dimmed(), format!("   {text}")));
    }

    /// Tells one record, with the time since its order was accepted.
    pub(super) fn happened(&self, began: DateTime<Utc>, record: &Record, line: &Line) {
        // Stages are told to the world, and are nothing to see here.
        if record.kind == "noted" {
            return;
        }
        let tone = Tone::of(record);
        let tenths = (line.at - began).num_milliseconds().max(0) / 100;
        let time = format!("{:>5}.{} s", tenths / 10, tenths % 10);
        let text = self.styled(tone.style(), format!("{} {}", tone.mark(), line.text));
        self.say(format!("{time}  {text}"));
    }

    /// Says what was checked, and how it is.
    pub(super) fn findings(&self, findings: &[Finding]) {
        self.say("");
        self.heading("Checked, also in the providers' own books, where everything stands once:");
        for finding in findings {
            let (tone, mark, text) = match finding {
                Ok(text) => (Tone::Done, "ok   ", text),
                Err(text) => (Tone::Wrong, "WRONG", text),
            };
            self.say(format!("  {}  {text}", self.styled(tone.style(), mark)));
        }
        if findings.iter().all(Result::is_ok) {
            self.say("");
            self.say(self.styled(Tone::Done.style().bold(), "Every order ended as it should."));
        }
    }

    /// Shows what can be looked at and tried.
    pub(super) fn guide(&self, guide: &str) {
        self.say("");
        self.say(guide);
    }

    /// Says that it ends.
    pub(super) fn closing(&self) {
        self.say("");
        self.say("Stopping ...");
    }

    fn heading(&self, text: &str) {
        self.say(self.styled(Style::new().bold(), text));
    }

    fn styled(&self, style: Style, text: impl Display) -> String {
        match self.colours {
            Colours::Plain => text.to_string(),
            Colours::Shown => format!("{style}{text}{style:#}"),
        }
    }

    fn say(&self, line: impl Display) {
        // Who has closed the other end of a pipe has seen enough.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
