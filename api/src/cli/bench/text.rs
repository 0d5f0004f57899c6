//! What a benchmark has found, for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use amends_api::bench::{Comparison, Report, Spread};

use crate::cli::table::{rendered, table};

/// Who runs orders, and what people call it.
const RUNNERS: [(&str, &str); 4] = [
    ("engine", "engine"),
    ("bare", "bare write path"),
    ("one_at_a_time", "one at a time"),
    ("its_commits_alone", "its commits alone"),
];
/// What is told of those, in this order; rows follow.
const PER_ORDER: [(&str, &str); 15] = [
    ("orders_per_second", "orders per second"),
    ("orders_per_second_drained", "- until every event is delivered"),
    ("latency_ms_mean", "latency, mean (ms)"),
    ("latency_ms_p50", "- half of them within"),
    ("latency_ms_p99", "- 99 in 100 within"),
    ("process_cpu_ms", "CPU of this process (ms)"),
    ("postgres_cpu_ms", "CPU of Postgres (ms)"),
    ("cores_busy", "cores busy"),
    ("wal_bytes", "WAL (bytes)"),
    ("writes", "writes"),
    ("statements", "statements that write them"),
    ("writes_per_statement", "writes per statement, median"),
    ("transactions", "transactions of all kinds"),
    ("syncs", "fsyncs of the WAL"),
    ("hot_share", "HOT share of updates"),
];
const YARDSTICKS: [(&str, &str); 4] = [
    ("rows_512_per_commit", "512 rows per commit"),
    ("rows_of_85_orders_per_commit", "20 rows x 85 per commit"),
    ("one_row_per_commit", "1 row per commit"),
    ("one_row_per_commit_64_clients", "- 64 clients"),
];
const PER_ROW: [(&str, &str); 6] = [
    ("rows_per_second", "rows per second"),
    ("commits_per_second", "commits per second"),
    ("process_cpu_ms_per_1000_rows", "CPU of this process (ms per 1000 rows)"),
    ("postgres_cpu_ms_per_1000_rows", "CPU of Postgres (ms per 1000 rows)"),
    ("cores_busy", "cores busy"),
    ("wal_bytes_per_1000_rows", "WAL (bytes per 1000 rows)"),
];
/// What is not known on every machine.
const PERHAPS: [&str; 4] = ["cpu", "cores", "syncs", "hot"];

/// The whole report.
pub(super) fn report(report: &Report) -> String {
    let Report { orders, concurrency, rounds, seed, server, .. } = report;
    let mut text = format!(
        "Postgres {}; {orders} orders per round, {concurrency} at a time; rounds: {rounds}; \
         seed {seed}\n\
         Medians, with the least and the most of the rounds. Per order:\n\n",
        server.version,
    );
    let known = report.contestants.values().flat_map(|contest| contest.summary.keys());
    text += &compared(report, &RUNNERS, &per_order(known));
    if report.spread("rows_512_per_commit", "rows_per_second").is_some() {
        let figures = PER_ROW.map(|(name, said)| (name.to_owned(), said.to_owned()));
        text += "\n\nFixed yardsticks, SHA-256 ";
        text += &report.yardsticks_sha256;
        text += ":\n\n";
        text += &compared(report, &YARDSTICKS, &figures);
        text += "\n";
        text += &sentences(report);
    }
    text
}

/// What is told by two contestants together.
fn sentences(report: &Report) -> String {
    let compared = &report.compared;
    let mut text = String::new();
    let mut say = |said: &str, spread: Option<&Spread>| {
        if let Some(spread) = spread {
            let _ = write!(text, "\n{said}: {}", shown(*spread));
        }
    };
    for (yardstick, said) in &YARDSTICKS[..2] {
        say(
            &format!("an order costs so many rows of \"{said}\", by time"),
            compared.rows_by_time.get(*yardstick),
        );
        say("- by CPU of Postgres", compared.rows_by_postgres_cpu.get(*yardstick));
    }
    say(
        "orders per second at best with a commit per write, 64 clients",
        compared.orders_at_one_commit_per_write.get("one_row_per_commit_64_clients"),
    );
    say("engine by bare write path, orders per second", compared.engine_by_bare.as_ref());
    say("- until every event is delivered", compared.engine_by_bare_drained.as_ref());
    say("one at a time by its commits alone", compared.one_at_a_time_by_its_commits.as_ref());
    if compared.bare_differs.is_empty() {
        text += "\nthe bare write path issues what the engine issues";
    }
    for (name, [engine, bare]) in &compared.bare_differs {
        let _ = write!(text, "\nTHE BARE WRITE PATH DIFFERS: {name}: engine {engine}, bare {bare}");
    }
    text
}

/// Both builds, figure by figure.
pub(super) fn comparison(found: &Comparison) -> String {
    let Comparison { orders, concurrency, rounds, seed, .. } = found;
    let mut text = format!(
        "Two builds in turns; {orders} orders per round, {concurrency} at a time; \
         rounds: {rounds}; seed {seed}\n\
         Medians, with the least and the most of the rounds; ratios within each round.\n"
    );
    for (contestant, said) in RUNNERS {
        let Some(figures) = found.contestants.get(contestant) else { continue };
        let mut table = table(Some(&[said, "this build", "the other", "this by the other"]));
        for (name, said) in per_order(figures.keys()) {
            if let Some(pair) = figures.get(&name) {
                let ratio = pair.ratio.map_or_else(String::new, shown);
                table.add_row([said, shown(pair.this), shown(pair.other), ratio]);
            }
        }
        let _ = write!(text, "\n{}\n", rendered(table));
    }
    text
}

/// What is told of an order, and what people call it: with every kind of row among `known`.
fn per_order<'a>(known: impl Iterator<Item = &'a String>) -> Vec<(String, String)> {
    let rows: BTreeSet<&String> = known.filter(|name| name.starts_with("rows.")).collect();
    let said = |name: &str| name.replace('.', " ");
    let rows = rows.into_iter().map(|name| (name.clone(), said(name)));
    PER_ORDER
        .map(|(name, said)| (name.to_owned(), said.to_owned()))
        .into_iter()
        .chain(rows)
        .collect()
}

/// Contestants side by side; whoever has not had a turn is left out.
fn compared(report: &Report, contestants: &[(&str, &str)], figures: &[(String, String)]) -> String {
    let mut contestants = contestants.to_vec();
    contestants.retain(|(name, _)| report.contestants.contains_key(*name));
    let headings: Vec<_> = [""].into_iter().chain(contestants.iter().map(|it| it.1)).collect();
    let mut table = table(Some(&headings));
    for (figure, said) in figures {
        let cells = contestants.iter().map(|(name, _)| match report.spread(name, figure) {
            Some(spread) => shown(spread),
            None if PERHAPS.iter().any(|it| figure.contains(it)) => "not known".to_owned(),
            None => "-".to_owned(),
        });
        table.add_row([said.clone()].into_iter().chain(cells));
    }
    rendered(table)
}

/// The median, with the range where there is one.
fn shown(spread: Spread) -> String {
    let Spread { median, least, most } = spread;
    let [median, least, most] = [median, least, most].map(number);
    if least == most { median } else { format!("{median} ({least} to {most})") }
}

/// As many digits as can be believed.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_shown_with_its_range_where_there_is_one() {
        let spread = Spread { median: 2841.6, least: 12.34, most: 0.25 };
        assert_eq!(shown(spread), "2842 (12.3 to 0.250)");
        assert_eq!(shown(Spread { median: 7.0, least: 7.0, most: 7.0 }), "7.00");
    }
}
