//! Probe points that a test shuts, and at which the engine then waits.

use std::sync::Arc;

use amends::probe::Probes;
use tokio::sync::watch;

/// Probe points at which whatever comes waits while they are shut. Clones share everything.
#[derive(Clone, Default)]
pub struct Gates {
    shut: Arc<watch::Sender<Vec<&'static str>>>,
    reached: Arc<watch::Sender<Vec<&'static str>>>,
}

impl Gates {
    /// Probes that stop at what is shut.
    #[must_use]
    pub fn probes(&self) -> Probes {
        let gates = self.clone();
        Probes::new(move |point| {
            let gates = gates.clone();
            Box::pin(async move {
                gates.reached.send_modify(|reached| reached.push(point));
                let mut shut = gates.shut.subscribe();
                // The sender is in the gates themselves.
                let _ = shut.wait_for(|shut| !shut.contains(&point)).await;
            })
        })
    }

    /// Shuts these, and opens all others.
    pub fn shut(&self, points: &[&'static str]) {
        self.reached.send_replace(Vec::new());
        self.shut.send_replace(points.to_vec());
    }

    /// Waits until something has come to a point since gates were last shut.
    pub async fn reached(&self, point: &'static str) {
        self.reached_by(point, 1).await;
    }

    /// Waits until so many have come to a point since gates were last shut.
    pub async fn reached_by(&self, point: &'static str, count: usize) {
        let mut reached = self.reached.subscribe();
        let has_come =
            |reached: &Vec<_>| reached.iter().filter(|it| **it == point).count() >= count;
        let _ = reached.wait_for(has_come).await;
    }
}
