//! Calls that are answered before they are carried out.
//!
//! Each is carried out when its delay is over, or when somebody says that it is time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The calls that are still to be carried out.
#[derive(Default)]
pub(super) struct Late {
    calls: Mutex<Vec<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Late {
    /// Carries a call out after a delay.
    pub(super) fn carry_out(
        &self,
        delay: Duration,
        call: impl Future<Output = ()> + Send + 'static,
    ) {
        let (now, told) = oneshot::channel();
        let carried_out = tokio::spawn(async move {
            // Nobody is left who could tell it: the delay holds.
            let told = async {
                if told.await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = told => {}
                () = tokio::time::sleep(delay) => {}
            }
            call.await;
        });
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|(_, carried_out)| !carried_out.is_finished());
        calls.push((now, carried_out));
    }

    /// Carries all of them out now, and says how many there were.
    pub(super) async fn all_now(&self) -> usize {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let mut count = 0;
        for (now, carried_out) in calls {
            count += usize::from(now.send(()).is_ok());
            // A panic has been reported by the panic hook.
            let _ = carried_out.await;
        }
        count
    }
}
