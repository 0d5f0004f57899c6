//! Checks the hash chain of every history against the records as they are stored.

use uuid::Uuid;

use crate::chain;
pub use crate::chain::Break;
use crate::error::Error;
use crate::store::{Address, Store, claim, read};

/// What a check has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Histories checked.
    pub instances: u64,
    /// Records checked.
    pub records: u64,
    /// Histories that are not as they were written, each with its first bad record.
    pub broken: Vec<(Uuid, Break)>,
}

/// Checks every history, and tells `progress` after each batch.
///
/// Reads only. Instances that run meanwhile may be longer than their row knows; that is no break.
pub async fn verify(
    address: impl Into<Address>,
    mut progress: impl FnMut(&Report),
) -> Result<Report, Error> {
    const BATCH: i64 = 500;
    let store = Store::new(address);
    let mut report = Report::default();
    let mut after = Uuid::nil();
    loop {
        let heads = read::heads(store.reading(), after, BATCH).await?;
        let last = heads.last().map(|(last, ..)| *last);
        let rowless = read::rowless(store.reading(), after, last.unwrap_or(Uuid::max())).await?;
        let what = "the instance that it belongs to is missing";
        report.broken.extend(rowless.into_iter().map(|(id, seq)| (id, Break { seq, what })));
        let Some(last) = last else { return Ok(report) };
        after = last;
        let ids: Vec<Uuid> = heads.iter().map(|(id, ..)| *id).collect();
        let histories = claim::histories(store.reading(), &ids).await?;
        for (id, head_seq, head_hash) in &heads {
            let records = histories.get(id).map(Vec::as_slice).unwrap_or_default();
            report.instances += 1;
            report.records += records.len() as u64;
            if let Err(found) = chain::verify(*id, records, (*head_seq, head_hash)) {
                report.broken.push((*id, found));
            }
        }
        progress(&report);
    }
}
