//! What a person would forget: who may know whom, how long files get, and that what is written
//! about the code is true.

use std::collections::BTreeSet;
use std::iter::successors;
use std::path::{Path, PathBuf};

use amends::Status;
use amends::status::Transition;
use amends_workflows::failure;

const CRATES: [&str; 4] = ["engine", "workflows", "api", "tests"];
const LINES_MAX: usize = 500;
/// The files of the engine, beside its store, that may name what is of the database.
const NEAR_THE_STORE: [&str; 10] = [
    "engine/src/bare.rs",
    "engine/src/committer/line.rs",
    "engine/src/doctor.rs",
    "engine/src/engine/mod.rs",
    "engine/src/engine/schema.rs",
    "engine/src/error.rs",
    "engine/src/lease.rs",
    "engine/src/loops.rs",
    "engine/src/transaction_step.rs",
    "engine/src/verify.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder with this extension, by its path from the root, in order.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map(Iterator::collect::<Vec<_>>);
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.into_iter().collect()
}

fn rust_files() -> Vec<String> {
    CRATES.iter().flat_map(|it| files(it, "rs")).collect()
}

/// Every page that is written for people.
fn pages() -> Vec<String> {
    let mut pages = files("docs", "md");
    pages.extend(["README.md", "CONTRIBUTING.md"].map(str::to_owned));
    pages
}

/// Where a file below `folder` holds one of these words, as `path:line: word`.
fn mentions(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(folder, "rs").into_iter().chain(files(folder, "toml")) {
        for (index, line) in read(&path).lines().enumerate() {
            let held = words.iter().filter(|word| line.contains(*word));
            found.extend(held.map(|word| format!("{path}:{}: {word}", index + 1)));
        }
    }
    found
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_engine_knows_nothing_of_http_or_orders() {
    none(&mentions("engine", &["axum", "reqwest", "amends_workflows", "amends-workflows"]));
    none(&mentions("engine", &["amends_api", "amends-api"]));
}

#[test]
fn workflows_know_nothing_of_the_database_or_of_the_server() {
    none(&mentions("workflows", &["axum", "amends_api", "amends-api"]));
    let mut found = mentions("workflows/src", &["sqlx"]);
    // Its steps are SQL, on a connection that the engine gives them.
    found.retain(|it| !it.starts_with("workflows/src/stock/"));
    none(&found);
}

#[test]
fn only_the_server_reads_the_environment() {
    for folder in ["engine/src", "workflows/src"] {
        none(&mentions(folder, &["std::env", "env::var"]));
    }
}

#[test]
fn sql_of_the_engine_stays_in_and_near_its_store() {
    let mut found = mentions("engine/src", &["sqlx::"]);
    found.retain(|it| {
        let allowed = NEAR_THE_STORE.iter().any(|near| it.starts_with(&format!("{near}:")));
        !allowed && !it.starts_with("engine/src/store/")
    });
    none(&found);
}

#[test]
fn transactions_begin_in_the_store_only() {
    for folder in ["engine/src", "workflows/src", "api/src"] {
        let mut found = mentions(folder, &[".begin("]);
        found.retain(|it| !it.starts_with("engine/src/store/"));
        none(&found);
    }
}

#[test]
fn no_file_holds_so_much_that_a_second_idea_must_live_in_it() {
    let lines = |path: &String| read(path).lines().count();
    let long = rust_files().into_iter().map(|path| (lines(&path), path));
    let long = long.filter(|(lines, _)| *lines > LINES_MAX);
    none(&long.map(|(lines, path)| format!("{path}: {lines} lines")).collect::<Vec<_>>());
}

#[test]
fn every_file_says_first_what_it_is() {
    let mut silent = rust_files();
    silent.retain(|path| !read(path).starts_with("//! "));
    none(&silent);
}

#[test]
fn paths_that_are_cited_exist() {
    let mut missing = Vec::new();
    for page in pages() {
        let text = read(&page);
        let beside = Path::new(&page).parent().unwrap();
        let cited = in_backticks(&text).into_iter().filter(|it| is_path(it)).map(PathBuf::from);
        let linked = links(&text).into_iter().map(|link| beside.join(link));
        let absent = cited.chain(linked).filter(|path| !root().join(path).exists());
        missing.extend(absent.map(|path| format!("{page}: {}", path.display())));
    }
    none(&missing);
}

/// Whether a citation is a path from the root, and not a pattern or something else with a slash.
fn is_path(citation: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-./".contains(it);
    let folders = ["engine/", "workflows/", "api/", "tests/", "docs/", "migrations/", ".ci/"];
    citation.chars().all(is_plain) && folders.iter().any(|folder| citation.starts_with(folder))
}

fn in_backticks(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Where links lead within the repository.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains(':')).collect()
}

#[test]
fn the_drawn_transitions_are_those_of_the_code() {
    let page = read("docs/STATES.md");
    let drawn: BTreeSet<String> = page
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("-->") && !line.contains("[*]"))
        .map(str::to_owned)
        .collect();
    let edges = Status::ALL.into_iter().flat_map(|from| {
        transitions().filter_map(move |by| {
            let to = from.after(by).filter(|to| *to != from)?;
            Some(format!("{from} --> {to}: {by:?}"))
        })
    });
    let possible: BTreeSet<String> = edges.collect();
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>, what: &str| {
        these.difference(those).map(|edge| format!("{what}: {edge}")).collect::<Vec<_>>()
    };
    none(
        &[
            only(&possible, &drawn, "possible, but not drawn"),
            only(&drawn, &possible, "drawn, but not possible"),
        ]
        .concat(),
    );
}

/// Every transition; the compiler sees to it that none is left out.
fn transitions() -> impl Iterator<Item = Transition> {
    successors(Some(Transition::Claim), |transition| match transition {
        Transition::Claim => Some(Transition::Wait),
        Transition::Wait => Some(Transition::Complete),
        Transition::Complete => Some(Transition::Compensate),
        Transition::Compensate => Some(Transition::Stick),
        Transition::Stick => Some(Transition::Resume),
        Transition::Resume => Some(Transition::FinishCompensated),
        Transition::FinishCompensated => Some(Transition::FinishCancelled),
        Transition::FinishCancelled => Some(Transition::Terminate),
        Transition::Terminate => None,
    })
}

#[test]
fn every_event_of_an_order_is_described() {
    let page = read("docs/ORDERS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let described: BTreeSet<String> = rows.map(str::to_owned).collect();
    let makers = ["Event::new(", "about(", "failed("];
    let mut published = BTreeSet::new();
    for path in files("workflows/src/fulfilment", "rs") {
        published.extend(upper_case_after(&makers, &read(&path)));
    }
    assert_eq!(published, described);
}

#[test]
fn every_code_that_is_stored_is_explained_in_the_runbook() {
    let page = read("docs/RUNBOOK.md");
    let explained: BTreeSet<&str> = in_backticks(&page).into_iter().collect();
    let mut stored: BTreeSet<String> =
        failure::CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    for path in files("engine/src", "rs") {
        stored.extend(codes(&read(&path)));
    }
    assert!(stored.contains("LEDGER_IMBALANCE"), "codes are not found any more: {stored:?}");
    stored.retain(|code| !explained.contains(code.as_str()));
    none(&stored.into_iter().collect::<Vec<_>>());
}

/// The codes of the failures that a file makes outside of its tests.
fn codes(text: &str) -> Vec<String> {
    let makers = [
        "Failure::new(",
        "StepError::fail(",
        "StepError::refused(",
        "StepError::unknown(",
        "StepError::retry(",
    ];
    upper_case_after(&makers, text)
}

/// The names in capitals that are first behind any of `makers`, outside of tests.
fn upper_case_after(makers: &[&str], text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let made = makers.iter().flat_map(|maker| code.split(maker).skip(1));
    let literals = made.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let is_code = |it: &&str| it.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    literals.filter(is_code).map(str::to_owned).collect()
}

#[test]
fn migrations_are_numbered_without_gaps_named_and_headed() {
    let mut wrong = Vec::new();
    for (index, path) in files("migrations", "sql").iter().enumerate() {
        let name = path.trim_start_matches("migrations/").trim_end_matches(".sql");
        let is_named = name
            .strip_prefix(&format!("{:04}_", index + 1))
            .is_some_and(|rest| rest.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'));
        if !is_named {
            wrong.push(format!("{path}: is number {}, as in 0001_some_words.sql", index + 1));
        }
        if !read(path).starts_with("-- ") {
            wrong.push(format!("{path}: has no header"));
        }
    }
    none(&wrong);
}
