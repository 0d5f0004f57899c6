//! What is measured of connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::listen::Full;

/// The connections of this process; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    open: Gauge,
    refused: Family<LimitLabels, Counter>,
    cut: Family<CutLabels, Counter>,
}

/// Why a connection was closed here, and not by its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// No whole head of a request came in time.
    Silent,
    /// Its client read nothing of an answer in time.
    Unread,
    /// The server was stopping, and no request was being answered.
    Stopping,
    /// The server was stopping, and the answer took too long.
    UnderWay,
}

impl Cut {
    fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Unread => "unread",
            Self::Stopping => "stopping",
            Self::UnderWay => "under_way",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabels {
    reason: &'static str,
}

impl From<Full> for LimitLabels {
    fn from(full: Full) -> Self {
        let limit = match full {
            Full::All => "all",
            Full::Address => "address",
        };
        Self { limit }
    }
}

/// A connection that is counted as open until this is dropped.
pub(crate) struct Open(Gauge);

impl Connections {
    /// Adds what is measured to a registry.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let connections = Self::default();
        let Self { open, refused, cut } = connections.clone();
        registry.register("amends_http_connections", "Connections that are open", open);
        registry.register(
            "amends_http_connections_refused",
            "Connections that were turned away, by the limit that they would have passed",
            refused,
        );
        registry.register(
            "amends_http_connections_cut",
            "Connections that were closed here, by what was waited for in vain",
            cut,
        );
        connections
    }

    /// Counts a connection as open.
    pub(crate) fn opened(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    /// Counts a connection that was turned away.
    pub(crate) fn refused(&self, full: Full) {
        self.refused.get_or_create(&full.into()).inc();
    }

    /// Counts a connection that was closed here.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut.get_or_create(&CutLabels { reason: cut.as_str() }).inc();
    }

    /// How many were closed so.
    pub(crate) fn count_cut(&self, cut: Cut) -> u64 {
        self.cut.get_or_create(&CutLabels { reason: cut.as_str() }).get()
    }
}

#[cfg(test)]
impl Connections {
    pub(crate) fn count_refused(&self, full: Full) -> u64 {
        self.refused.get_or_create(&full.into()).get()
    }

    pub(crate) fn count_open(&self) -> i64 {
        self.open.get()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
