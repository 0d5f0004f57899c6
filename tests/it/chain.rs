//! What somebody with every right changes behind our back, and how it is found out.

use amends::verify::verify;
use amends_tests::World;
use sqlx::Executor;
use uuid::Uuid;

/// (what is done, the number of the first record that is not as it was written)
const TAMPERINGS: [(&str, u32); 7] = [
    (
        "update amends.record set payload = replace(payload::text, '5990', '5991')::json where seq = 4",
        4,
    ),
    ("update amends.record set events = null where seq = 3", 3),
    ("update amends.record set actor = 'anna' where seq = 4", 4),
    ("update amends.record set at = at + interval '1 microsecond' where seq = 1", 1),
    ("delete from amends.record where seq = 5", 5),
    ("delete from amends.record where seq = 10", 10),
    ("delete from amends.instance", 0),
];

#[tokio::test]
async fn whatever_is_changed_as_superuser_is_found_and_named() {
    for (tampering, seq) in TAMPERINGS {
        let world = World::new().await;
        let tampered: Uuid = world.start_order("1001").await;
        world.settle().await;
        let mut database = world.database().await;
        database.execute("set session_replication_role = replica").await.unwrap();
        let changed = database.execute(tampering).await.unwrap();
        assert_eq!(changed.rows_affected(), 1, "{tampering}");
        let report = verify(world.options(), |_| ()).await.unwrap();
        let broken: Vec<_> = report.broken.iter().map(|(id, found)| (*id, found.seq)).collect();
        assert_eq!(broken, [(tampered, seq)], "{tampering}");
        world.engine().abandon();
    }
}
