//! Commits that the database had acknowledged and does not have any more, as after a failover to a
//! copy that lacked them: what is told of them, and how a person lets orders in again.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::Error;
use crate::limits::refuse_person;
use crate::store::{Address, Purpose, Store, loss};

/// What becomes of orders while lost commits wait for a person to acknowledge them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLostCommits {
    /// None are taken in: perhaps the database is to be another one, which has what is missing.
    Stop,
    /// They are taken in as ever.
    GoOn,
}

/// The last commit that somebody was told of and that is not there. What came shortly before it may
/// be missing as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Its id.
    pub loss_id: Uuid,
    /// What is missing, in words.
    pub lost: String,
    /// The instance, if it is about one.
    pub instance_id: Option<Uuid>,
    /// Which server has found it missing.
    pub found_by: String,
    /// When.
    pub found_at: DateTime<Utc>,
}

/// Says on behalf of `actor` that what is missing is known, so that all servers take orders in
/// again. Returns what that was.
pub async fn acknowledge_losses(
    address: impl Into<Address>,
    actor: &str,
    reason: &str,
) -> Result<Vec<Loss>, Error> {
    refuse_person(actor, reason).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
    let mut session = Store::new(address).connect(Purpose::Alone).await?;
    let losses = loss::unacknowledged(&mut session).await?;
    let ids: Vec<_> = losses.iter().map(|loss| loss.loss_id).collect();
    let at = Clock::system().now();
    loss::acknowledge(&mut session, &ids, (actor, reason), at).await?;
    session.close().await?;
    Ok(losses)
}
