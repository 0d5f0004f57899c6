//! Named points at which a test may stop the world; nothing in production.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

type Hook = dyn Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync;

/// What happens when the engine reaches a probe point.
#[derive(Clone, Default)]
pub struct Probes(Option<Arc<Hook>>);

impl Probes {
    /// Calls `hook` with the name of each point that is reached, and waits for it.
    pub fn new(
        hook: impl Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(hook)))
    }

    pub(crate) async fn reach(&self, point: &'static str) {
        if let Some(hook) = &self.0 {
            hook(point).await;
        }
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Probes(hooked)" } else { "Probes(none)" })
    }
}
