//! Starting an instance together with the caller's own data.

use super::signal::begun;
use super::{Engine, Start, Started};
use crate::error::Error;
use crate::intake::{self, Birth};
use crate::store::start::start_within;
use crate::transaction_step::PgConnection;

impl Engine {
    /// Starts an instance within the transaction that is open on `connection`: it is there if and
    /// only if the caller commits.
    ///
    /// The connection is one to the engine's database, with rights to its tables; any search path
    /// will do. All else is as in [`Engine::start`], save that no worker has the instance yet: one
    /// finds it at its next look, within [`super::Settings::poll`], or at once if the caller calls
    /// [`Engine::nudge`] after the commit. Whoever starts the same at the same time waits for the
    /// end of this transaction.
    ///
    /// After [`Error::Database`] and [`Error::InvalidInput`] the database may have ended the
    /// caller's transaction: all that is left is to roll it back.
    pub async fn start_within(
        &self,
        connection: &mut PgConnection,
        mut start: Start,
    ) -> Result<Started, Error> {
        self.permit_intake()?;
        start.business_key = self.stored_key(start.workflow, start.business_key).await?;
        let worker = self.worker();
        let newborn = intake::prepare(&worker, start, None, Birth::new())?;
        let Some(new) = &newborn.write.start else {
            return Err(Error::Unavailable);
        };
        let subscriptions = worker.subscriptions.names();
        let written = start_within(connection, &newborn.write, new, &subscriptions).await?;
        begun(written, newborn.write.instance_id)
    }

    /// Has all processes look for what is due. A hint: they would find it by themselves.
    pub async fn nudge(&self) {
        self.ring().await;
    }
}
