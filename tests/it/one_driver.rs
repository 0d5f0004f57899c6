//! One instance has one driver, whatever becomes of the answers to its writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amends::Status;
use amends::probe::Probes;
use amends_tests::detour::{Detour, Loss};
use amends_tests::kit::Kit;
use amends_tests::scripted::{Act, ONCE, Script, Scripted, retry, start};
use sqlx::PgConnection;
use tokio::sync::{Mutex, Semaphore};

const COMMIT: &str = include_str!("../../engine/src/store/sql/commit.sql");

/// A point that is passed only when the test says so.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn open(&self) {
        self.0.add_permits(1);
    }

    /// Waits until it has been opened once more.
    async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// The answer to a release is lost, and the instance is due and claimed before the release is sent
/// again.
#[tokio::test]
async fn an_instance_that_is_claimed_before_its_release_is_answered_has_one_driver() {
    let detour = Detour::default();
    let [resending, resend, resent, calls] = std::array::from_fn(|_| Gate::closed());
    let [sent, answered, claims, begun] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
    let probes = {
        let (resending, resend) = (resending.clone(), resend.clone());
        let (resent, calls) = (resent.clone(), calls.clone());
        let claims = Arc::clone(&claims);
        Probes::new(move |point| {
            let count = |of: &AtomicUsize| of.fetch_add(1, Ordering::SeqCst);
            let (resending, resend, calls) = (resending.clone(), resend.clone(), calls.clone());
            // The birth, the release, the release again.
            let is_resend = point == "commit.before" && count(&sent) == 2;
            if point == "commit.after" && count(&answered) == 1 {
                resent.open();
            }
            if point == "claim.after" {
                count(&claims);
            }
            let is_second_call = point == "effect.before" && count(&begun) > 0;
            Box::pin(async move {
                if is_resend {
                    resending.open();
                    resend.pass().await;
                }
                if is_second_call {
                    calls.pass().await;
                }
            })
        })
    };
    let script = Script::new(ONCE, [retry("once more"), Act::Succeed]);
    let workflow = script.clone();
    let kit = Kit::builder().probes(probes).detour(&detour);
    let kit = kit.build(move |engine| engine.workflow(Scripted(workflow.clone()))).await;
    detour.lose_nth(COMMIT, 1, Loss::Answer);
    let id = kit.begin(start("it")).await;
    resending.pass().await;
    kit.advance(Duration::from_secs(1));
    assert_eq!(kit.engine().claim().await.unwrap(), 1);
    resend.open();
    resent.pass().await;
    let is_held = "select worker_id is not null from amends.instance";
    let mut database = kit.database().await;
    assert!(sqlx::query_scalar::<_, bool>(is_held).fetch_one(&mut database).await.unwrap());
    calls.open();
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Completed);
    assert_eq!(detour.lost(), [COMMIT]);
    assert_eq!((script.ran(), claims.load(Ordering::SeqCst)), (2, 1));
    kit.finish().await;
}

/// A record of somebody else's stands where the next one would, and the write that holds it also
/// holds another record and a change of the row.
#[tokio::test]
async fn a_write_whose_first_number_is_taken_does_not_go_in_in_part() {
    let database = Arc::new(Mutex::new(None::<PgConnection>));
    let probes = {
        let database = Arc::clone(&database);
        Probes::new(move |point| {
            let database = Arc::clone(&database);
            Box::pin(async move {
                let mut database = database.lock().await;
                if let ("effect.before", Some(database)) = (point, database.as_mut()) {
                    let forge =
                        "insert into amends.record (instance_id, seq, kind, payload, at, hash)
                                 select instance_id, 1, 'worker_lost', '{}', now(), sha256('forged')
                                 from amends.instance";
                    sqlx::query(forge).execute(database).await.unwrap();
                }
            })
        })
    };
    let kit = Kit::builder().probes(probes);
    let kit = kit.build(|engine| engine.workflow(Scripted(Script::new(ONCE, [])))).await;
    *database.lock().await = Some(kit.database().await);
    let id = kit.begin(start("it")).await;
    kit.engine().quiesce().await;
    let kinds: Vec<_> = kit.history(id).await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["started", "worker_lost"]);
    assert_eq!(kit.status(id).await, Status::Running);
    kit.engine().abandon();
}
