//! The program as processes that are killed, and a database that is killed under them.

mod customers;
mod evidence;
mod scene;

use std::time::Duration;

use amends_tests::cluster::scratch;
use amends_tests::invariants;
use amends_tests::process::command;
use customers::Customers;
use evidence::{Evidence, Exercised};
use scene::Scene;
use tokio::time::timeout;

const DEMO: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_demo_ends_well_by_itself() {
    let folder = scratch().join(format!("demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let data_dir = folder.to_string_lossy();
    let settings = [("AMENDS_DATA_DIR", &*data_dir), ("AMENDS_LISTEN", "127.0.0.1:0")];
    let demo = timeout(DEMO, command(&["demo", "--once"], &settings).output()).await;
    let output = demo.unwrap().unwrap();
    let told = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}:\n{}", output.status, String::from_utf8_lossy(&told));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Three times something is killed with -9 while hundreds of orders are under way: the server, the
/// database, the server again. Providers fail at random all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_order_ends_right_whatever_is_killed() {
    let mut scene = Scene::open().await;
    let mut customers = Customers::of(&scene);

    scene.slow("invoice", "issue").await;
    customers.order(0..240);
    customers.all_served().await;
    let in_flight_when_killed = scene.in_flight().await;
    customers.order(240..280);
    customers.one_served().await;
    scene.kill_server().await;
    scene.start_server().await;

    scene.slow("carrier", "ship").await;
    scene.applied("charge", 80).await;
    let in_flight_without_database = scene.in_flight().await;
    customers.order(280..320);
    customers.one_served().await;
    scene.restart_postgres().await;

    scene.applied("ship", 80).await;
    customers.order(320..360);
    customers.one_served().await;
    scene.kill_server().await;
    scene.start_server().await;

    customers.all_served().await;
    scene.everything_has_ended().await;

    let evidence = Evidence::gather(&scene).await;
    let wrong = evidence.contradictions(customers.accepted());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    invariants::check(&mut scene.database().await).await;
    let verified = amends::verify::verify(scene.options(), |_| ()).await.unwrap();
    assert!(verified.broken.is_empty(), "broken chains: {:?}", verified.broken);

    Exercised {
        in_flight_when_killed,
        in_flight_without_database,
        replayed: customers.replayed(),
        taken_over: scene.taken_over().await,
        ..evidence.exercised()
    }
    .enough();
    scene.close().await;
}
