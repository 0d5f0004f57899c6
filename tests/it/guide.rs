//! The guide, followed as a new user would: its files are written into an empty folder, compiled,
//! tested and run.
//!
//! A block that names its file after the language is that file. Where a file comes again, what the
//! guide has built so far is tried first.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::str::FromStr;

use amends_api::postgres::{Durability, Embedded, Options};
use amends_tests::cluster::{SCRATCH, bin_dir, scratch, stop_with_this_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};
use tokio::process::Command;

/// What makes the crate one of its own though it lies below this workspace, and has it share what
/// the workspace has compiled.
const APART: &str = "\n[workspace]\n\n[profile.dev]\ndebug = \"line-tables-only\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/GUIDE.md")).unwrap()
}

/// A fenced block: what stands after the fence, and what is in it.
fn blocks(page: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = page.split("```").collect();
    assert!(parts.len() % 2 == 1, "a fence is not closed");
    let blocks = parts.iter().skip(1).step_by(2);
    blocks
        .map(|block| {
            let (language, text) = block.split_once('\n').unwrap();
            (language.to_owned(), text.to_owned())
        })
        .collect()
}

/// The stages of the crate: the files that are written until one of them comes again.
fn stages(page: &str) -> Vec<Vec<(String, String)>> {
    let mut stages = vec![Vec::new()];
    for (language, text) in blocks(page) {
        let Some((_, file)) = language.split_once(' ') else { continue };
        let stage: &mut Vec<(String, String)> = stages.last_mut().unwrap();
        if stage.iter().any(|(known, _)| known == file) {
            stages.push(vec![(file.to_owned(), text)]);
        } else {
            stage.push((file.to_owned(), text));
        }
    }
    stages
}

/// The build directory, of which this test is in `debug/deps`.
fn build_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

/// The folder in which somebody follows the guide.
struct Reader {
    folder: PathBuf,
    database_url: String,
}

impl Reader {
    /// Begins with an empty folder and an empty database.
    async fn begin() -> Self {
        // One place for all runs, so that cargo compiles it once.
        let folder = build_dir().join("guide").join("repairs");
        // There is none before the first run.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        let data_dir = scratch().join("guide").join("postgres");
        std::fs::create_dir_all(&data_dir).unwrap();
        let (bin_dir, durability) = (bin_dir(), Durability::Full);
        let options = Options { data_dir: data_dir.clone(), bin_dir, durability };
        let postgres = Embedded::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        stop_with_this_process(&data_dir);
        let options = PgConnectOptions::from_str(postgres.url()).unwrap();
        let mut database = options.connect().await.unwrap();
        database.execute("drop schema if exists amends cascade").await.unwrap();
        Self { folder, database_url: postgres.url().to_owned() }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = match file {
            "Cargo.toml" => text.replace("../amends", &root().to_string_lossy()) + APART,
            _ => text.to_owned(),
        };
        std::fs::write(path, text).unwrap();
    }

    /// Runs cargo as whoever has set `DATABASE_URL`, without the network.
    async fn cargo(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO"))
            .args([arguments[0], "--offline"])
            .args(&arguments[1..])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", build_dir())
            .env("DATABASE_URL", &self.database_url)
            // The guide's tests stop their server when they end, and it must not be ours.
            .env(SCRATCH, scratch().join("guide").join("tests"))
            .output()
            .await
            .unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "cargo {}:\n{stdout}\n{stderr}", arguments.join(" "));
        assert!(!stderr.contains("warning: `repairs`"), "{stderr}");
        stdout.into_owned()
    }
}

#[tokio::test]
async fn whoever_follows_the_guide_has_a_tested_workflow() {
    let reader = Reader::begin().await;
    let stages = stages(&page());
    assert_eq!(stages.len(), 2, "a first workflow, and the whole one");
    for (stage, files) in stages.iter().enumerate() {
        for (file, text) in files {
            reader.write(file, text);
        }
        let tested = reader.cargo(&["test", "--tests"]).await;
        assert!(tested.contains("0 failed; 0 ignored"), "{tested}");
        let run = async |arguments: &[&str]| {
            reader.cargo(&[&["run", "--quiet", "--"], arguments].concat()).await
        };
        if stage == 0 {
            assert!(run(&[]).await.contains("is completed"));
            assert!(run(&[]).await.contains("Duplicate"));
        } else {
            assert!(run(&["start", "job/2", "a tandem", "Jane"]).await.contains("New"));
            assert!(run(&["agree", "job/2"]).await.contains("Accepted"));
            assert_eq!(run(&["check"]).await, "");
        }
    }
}

#[test]
fn every_piece_of_the_guides_code_is_a_file_that_is_compiled() {
    let blocks = blocks(&page());
    let languages: Vec<_> = blocks.into_iter().map(|(language, _)| language).collect();
    let loose: Vec<_> = languages.iter().filter(|it| !it.contains(' ') && *it != "sh").collect();
    assert!(loose.is_empty(), "blocks without a file: {loose:?}");
    assert!(languages.len() > 10, "the blocks are not found any more: {languages:?}");
}
