//! Losing the lease: what a dead worker held is taken over, and what it still wants is refused.

use amends::Status;
use amends_tests::World;
use amends_tests::crash::Crash;

#[tokio::test]
async fn what_a_dead_worker_held_is_finished_by_another() {
    let (crash, probes) = Crash::at(Some(8));
    let mut world = World::builder().probes(probes).build().await;
    let id = world.start_order("1001").await;
    crash.happened().await;
    world.crash().await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Running, "the lease has not run out");
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}
