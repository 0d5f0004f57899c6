//! Tables and texts for a terminal.

use std::fmt::Display;
use std::io::Write;

use chrono::{DateTime, SecondsFormat, TimeZone};
use comfy_table::{Table, presets};

/// A table without lines, under these headings, if any.
pub(crate) fn table(headings: Option<&[&str]>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(headings) = headings {
        table.set_header(headings.to_vec());
    }
    table
}

/// A table as text: columns apart, nothing before the first and after the last.
pub(crate) fn rendered(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A text from elsewhere, without what would steer a terminal or turn letters around.
pub(crate) fn printable(text: &str) -> String {
    let is_hidden = |character: char| match character {
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2060}'..='\u{2069}' | '\u{feff}' => true,
        _ => character.is_control(),
    };
    text.chars()
        .flat_map(|character| {
            let escaped = is_hidden(character).then(|| character.escape_unicode());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A time to the second, in its own zone.
pub(crate) fn seconds<Tz: TimeZone<Offset: Display>>(at: DateTime<Tz>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Prints a body as it came, as one line at least.
pub(crate) fn print(text: &str) {
    // Who has closed the other end of a pipe has seen enough.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_shown_instead() {
        assert_eq!(printable("acme/1 ü"), "acme/1 ü");
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("a\u{202e}b\n"), "a\\u{202e}b\\u{a}");
    }
}
