//! Business keys that were spelt otherwise when their instances were started.

use super::Engine;
use crate::error::Error;
use crate::store::former_key;
use crate::view::Filter;

impl Engine {
    /// The key under which an instance is stored: what was started under a former spelling keeps it.
    pub(super) async fn stored_key(
        &self,
        workflow: &str,
        business_key: String,
    ) -> Result<String, Error> {
        if !self.0.any_former_key {
            return Ok(business_key);
        }
        let pool = self.store().pool();
        let stored = former_key::stored_key(pool, workflow, &business_key).await?;
        Ok(stored.unwrap_or(business_key))
    }

    /// The same search for what is stored under a former spelling, if there is such a thing.
    pub(super) async fn under_stored_key(&self, filter: &Filter) -> Result<Option<Filter>, Error> {
        let (Some(workflow), Some(business_key)) = (&filter.workflow, &filter.business_key) else {
            return Ok(None);
        };
        let stored = self.stored_key(workflow, business_key.clone()).await?;
        let is_other = stored != *business_key;
        Ok(is_other.then(|| Filter { business_key: Some(stored), ..filter.clone() }))
    }
}
