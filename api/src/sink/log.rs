//! Writes a line to the log for each event, for servers that have no receiver.

use amends::sink::{Delivered, Sink, Undelivered};
use futures::future::BoxFuture;

/// Logs that an event happened, never its data.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

impl Sink for LogSink {
    fn deliver<'a>(&'a self, event: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>> {
        tracing::info!(
            event.id,
            event.kind,
            event.number,
            instance.id = %event.instance_id,
            "{} of {}",
            event.kind,
            event.key
        );
        Box::pin(std::future::ready(Ok(())))
    }
}
