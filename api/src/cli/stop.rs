//! What stops a program from outside: the signals of the operating system.

use amends_api::log::last_words;
use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell reports of a program that was interrupted.
const EXIT_INTERRUPTED: i32 = 130;

/// Completes at the first SIGTERM or SIGINT. A second one ends the program at once.
pub(crate) fn asked() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            last_words("amends: stopped at once".to_owned());
            std::process::exit(EXIT_INTERRUPTED);
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
