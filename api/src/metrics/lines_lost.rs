//! What the log could not take.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use crate::log;

/// Counts the lines of the log that nobody has taken, when it is asked.
#[derive(Debug)]
pub(crate) struct LinesLost;

impl Collector for LinesLost {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(log::lines_lost());
        let help = "Lines of the log that are lost since nobody has taken them in time";
        let encoder = encoder.encode_descriptor(
            "amends_log_lines_lost",
            help,
            None,
            counter.metric_type(),
        )?;
        counter.encode(encoder)
    }
}
