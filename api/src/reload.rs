//! Reads files of secrets again when they change, or at SIGHUP.
//!
//! A file that cannot be used changes nothing: what was read before it counts on, the log says what
//! is wrong, and a metric that it is so. A file is known by what it holds and not by its time, since
//! a mounted secret is exchanged by a link.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::auth::Token;
use crate::config::{SHOPIFY_SECRETS, SecretFiles, TOKENS, read_file, read_shops, read_tokens};
use crate::serve::warn_of_expiry;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Follows the files until it is dropped. Without any, SIGHUP ends the process as ever: a demo must
/// not outlive its terminal.
pub(crate) async fn follow(files: SecretFiles, app: App) {
    let SecretFiles { tokens, shopify_secrets } = files;
    let mut followed = Vec::new();
    followed.extend(tokens.map(|path| SecretFile::new(path, TOKENS, admit_tokens)));
    followed
        .extend(shopify_secrets.map(|path| SecretFile::new(path, SHOPIFY_SECRETS, admit_shops)));
    // What is no file, such as a pipe, can be read once.
    followed.retain(|file: &SecretFile| file.path.is_file());
    if followed.is_empty() {
        return;
    }
    let mut hang_up = match signal(SignalKind::hangup()) {
        Ok(hang_up) => Some(hang_up),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP is not listened for: {error}");
            None
        }
    };
    for file in &followed {
        app.metrics().file_is_broken(file.setting, false);
    }
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_asked = tokio::select! {
            _ = ticks.tick() => false,
            () = hung_up(hang_up.as_mut()) => true,
        };
        if is_asked {
            let count = followed.len();
            tracing::info!(count, "SIGHUP: {count} files of secrets are read again");
        }
        for file in &mut followed {
            file.look(&app, is_asked).await;
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Lets in whom a text names; else what is wrong with it.
type Admit = fn(&App, &str, &str) -> Result<(), String>;

/// A file, and what it held when it was read last.
struct SecretFile {
    path: PathBuf,
    setting: &'static str,
    admit: Admit,
    seen: Option<Content>,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Text([u8; 32]),
    Problem(String),
}

impl SecretFile {
    fn new(path: PathBuf, setting: &'static str, admit: Admit) -> Self {
        Self { path, setting, admit, seen: None }
    }

    /// Reads the file, and admits what it holds if that is something else than before.
    async fn look(&mut self, app: &App, is_asked: bool) {
        let text = read(&self.path).await;
        let seen = match &text {
            Ok(text) => Content::Text(Sha256::digest(text).into()),
            Err(problem) => Content::Problem(problem.clone()),
        };
        if self.seen.as_ref() == Some(&seen) && !is_asked {
            return;
        }
        self.seen = Some(seen);
        let setting = format!("{}_FILE", self.setting);
        let admitted = text.and_then(|text| (self.admit)(app, &setting, &text));
        app.metrics().file_is_broken(self.setting, admitted.is_err());
        if let Err(problem) = admitted {
            tracing::error!(
                setting,
                "{setting} cannot be used, and what was read from it before counts on: {problem}"
            );
        }
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_file(&path)).await;
    reading.unwrap_or_else(|error| Err(error.to_string()))
}

fn admit_tokens(app: &App, setting: &str, text: &str) -> Result<(), String> {
    let tokens = read_tokens(setting, text).map_err(|problems| problems.to_string())?;
    let before = app.tokens();
    warn_of_expiry(&tokens, app.now());
    let count = tokens.len();
    let (new, gone) = (only(&tokens, &before), only(&before, &tokens));
    app.admit_tokens(tokens);
    tracing::info!(
        count,
        new,
        gone,
        "{count} tokens are accepted; new or changed: {new}; gone or changed: {gone}"
    );
    Ok(())
}

fn admit_shops(app: &App, setting: &str, text: &str) -> Result<(), String> {
    let shops = read_shops(setting, text).map_err(|problems| problems.to_string())?;
    let count = shops.len();
    app.admit_shopify(shops);
    tracing::info!(count, "{count} shops are believed");
    Ok(())
}

/// The names of the tokens that are among these and not among those.
fn only(these: &[Token], those: &[Token]) -> String {
    let is_there =
        |token: &Token| those.iter().any(|it| it.name() == token.name() && it.has_secret_of(token));
    let names: Vec<_> = these.iter().filter(|it| !is_there(it)).map(Token::name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
