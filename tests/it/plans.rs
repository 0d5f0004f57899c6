//! How the large statements find their rows: by an index, however much there is and whatever was
//! known of the tables when they were planned.

use amends_tests::World;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

/// How many arguments the commit has.
const ARGUMENTS: usize = 73;
/// The parts of the commit that are one row at most.
const ONE_ROW: [&str; 2] = ["fence", "after_changed"];
const COMMIT: &str = include_str!("../../engine/src/store/sql/commit.sql");
const CLAIM: &str = include_str!("../../engine/src/store/sql/claim_instances.sql");
const CLAIM_SUSPECTS: &str = include_str!("../../engine/src/store/sql/claim_suspects.sql");
const CLAIM_PARKED: &str = include_str!("../../engine/src/store/sql/claim_parked.sql");
const LOCK_FAMILY: &str = include_str!("../../engine/src/store/sql/lock_family.sql");
const FAMILY: &str = include_str!("../../engine/src/store/sql/family.sql");
const TELL_FAMILY: &str = include_str!("../../engine/src/store/sql/tell_family.sql");
const LIVE_VERSIONS: &str = include_str!("../../engine/src/store/sql/live_versions.sql");
const LIVE_INSTANCES: &str = include_str!("../../engine/src/store/sql/live_instances.sql");

/// 200,000 instances: most have ended, 20,000 are held by one worker, 2,000 are due.
const CROWD: &str = "
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, worker_id, run_at, attributes,
         head_seq, head_hash, created_at, updated_at, ended_at)
    select gen_random_uuid(), 'fulfilment', 1, 'crowd/' || n,
           case when n % 10 = 0 then 'running' when n % 100 = 1 then 'waiting' else 'completed' end,
           case when n % 10 = 0 then '00000000-0000-0000-0000-000000000001'::uuid end,
           case when n % 100 = 1 then now() end,
           '{}', 0, sha256('x'), now(), now(),
           case when n % 10 <> 0 and n % 100 <> 1 then now() end
    from generate_series(1, 200000) n";

/// 10,000 suspects, due before everything else.
const SUSPECTS: &str = "
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, run_at, attributes,
         head_seq, head_hash, created_at, updated_at, losses, lost_after_seconds)
    select gen_random_uuid(), 'fulfilment', 1, 'suspect/' || n, 'running', now() - interval '1 h',
           '{}', 0, sha256('x'), now(), now(), 2, n % 100
    from generate_series(1, 10000) n";

/// 100,000 instances that have ended, and 500 that have not.
const ENDED: &str = "
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, attributes,
         head_seq, head_hash, created_at, updated_at, ended_at)
    select gen_random_uuid(), 'fulfilment', 1, 'ended/' || n,
           case when n % 201 = 0 then 'waiting' else 'completed' end,
           '{}', 0, sha256('x'), now(), now(), case when n % 201 <> 0 then now() end
    from generate_series(1, 100500) n";
const DUE: &str = include_str!("../../engine/src/store/sql/due_schedules.sql");

/// 100 schedules with 200,000 firings, of which 100 are planned.
const FIRINGS: &str = "
    with defined as (
        insert into amends.schedule (name, definition, cron, zone, workflow, gap, overlap, next_at)
        select 's' || n, 's' || n, '* * * * *', 'UTC', 'w', 'last', 'skip', now() + interval '1 h'
        from generate_series(1, 100) n
    )
    insert into amends.firing
        (schedule, fire_key, fire_at, kind, state, turn, planned_at)
    select 's' || n % 100, n, now(), 'due', case when n % 2000 < 1 then 'planned' else 'started' end,
           n, now()
    from generate_series(1, 200000) n";

/// The plan of `statement` for any arguments, as the committer has it.
async fn plan(database: &mut PgConnection, statement: &str, arguments: usize) -> String {
    typed_plan(database, "", statement, arguments).await
}

/// The types of the arguments of a statement, as a list.
async fn argument_types(database: &mut PgConnection, statement: &str) -> String {
    let prepare = format!("prepare typed as {statement}");
    database.execute(AssertSqlSafe(prepare)).await.unwrap();
    let types = "select '(' || array_to_string(parameter_types, ', ') || ')'
                 from pg_prepared_statements where name = 'typed'";
    sqlx::query_scalar(types).fetch_one(&mut *database).await.unwrap()
}

/// The same, where the types of the arguments cannot be told from the statement.
async fn typed_plan(
    database: &mut PgConnection,
    types: &str,
    statement: &str,
    arguments: usize,
) -> String {
    let nulls = match arguments {
        0 => String::new(),
        arguments => format!("({})", vec!["null"; arguments].join(", ")),
    };
    let prepare = format!("prepare planned{types} as {statement}");
    database.execute(AssertSqlSafe(prepare)).await.unwrap();
    let explain = format!("explain execute planned{nulls}");
    let lines: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *database).await.unwrap();
    database.execute("deallocate planned").await.unwrap();
    lines.join("\n")
}

#[tokio::test]
async fn a_commit_finds_what_it_changes_by_its_key_and_never_walks_what_a_worker_holds() {
    let world = World::new().await;
    let mut database = world.database().await;
    database.execute("set plan_cache_mode = force_generic_plan").await.unwrap();
    database.execute("set enable_seqscan = off").await.unwrap();
    let types = argument_types(&mut database, COMMIT).await;
    for when in ["empty", "crowded", "analysed"] {
        match when {
            "crowded" => database.execute(CROWD).await.unwrap(),
            "analysed" => database.execute("analyze").await.unwrap(),
            _ => Default::default(),
        };
        let whole = plan(&mut database, COMMIT, ARGUMENTS).await;
        assert!(whole.contains("Index Scan using instance_pkey on instance"), "{when}:\n{whole}");
        assert!(whole.contains("Index Only Scan using record_pkey on record"), "{when}:\n{whole}");
        for shape in amends::commit_shapes() {
            let plan = typed_plan(&mut database, &types, &shape, ARGUMENTS).await;
            assert!(!plan.contains("instance_held"), "{when}:\n{plan}");
            assert!(!plan.contains("Seq Scan"), "{when}:\n{plan}");
            // What one part of it asks of another is looked up, never compared one by one.
            let asks = |line: &&str| !line.starts_with("--") && line.contains("in (select");
            let asked = shape.lines().filter(asks).count();
            assert_eq!(plan.matches("hashed SubPlan").count(), asked, "{when}:\n{plan}");
            let mut compared = plan.lines().filter(|line| line.contains("Join Filter"));
            let is_with_one = |line: &str| ONE_ROW.iter().any(|one| line.contains(one));
            assert!(compared.all(is_with_one), "{when}:\n{plan}");
        }
    }
    world.engine().abandon();
}

#[tokio::test]
async fn a_claim_looks_only_at_what_is_due() {
    let world = World::new().await;
    let mut database = world.database().await;
    database.execute(CROWD).await.unwrap();
    database.execute("analyze").await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let set = format!("set plan_cache_mode = {mode}");
        database.execute(AssertSqlSafe(set)).await.unwrap();
        let plan = plan(&mut database, CLAIM, 8).await;
        assert!(plan.contains("instance_due_by_version"), "{mode}:\n{plan}");
        assert!(!plan.contains("Seq Scan on instance"), "{mode}:\n{plan}");
    }
    database.execute(SUSPECTS).await.unwrap();
    for when in ["crowded", "analysed"] {
        if when == "analysed" {
            database.execute("analyze").await.unwrap();
        }
        let claims = [
            (CLAIM, 8, "instance_due_by_version"),
            (CLAIM_SUSPECTS, 8, "instance_suspect"),
            (CLAIM_PARKED, 8, "instance_parked"),
        ];
        for (statement, arguments, index) in claims {
            let plan = plan(&mut database, statement, arguments).await;
            assert!(plan.contains(index), "{when}:\n{plan}");
            assert!(!plan.contains("Seq Scan on instance"), "{when}:\n{plan}");
        }
    }
    world.engine().abandon();
}

#[tokio::test]
async fn what_is_live_is_found_without_a_look_at_what_has_ended() {
    let world = World::new().await;
    let mut database = world.database().await;
    database.execute("set plan_cache_mode = force_generic_plan").await.unwrap();
    database.execute(ENDED).await.unwrap();
    for when in ["crowded", "analysed"] {
        if when == "analysed" {
            database.execute("vacuum analyze amends.instance").await.unwrap();
        }
        for (statement, arguments) in [(LIVE_VERSIONS, 0), (LIVE_INSTANCES, 2)] {
            let plan = plan(&mut database, statement, arguments).await;
            assert!(plan.contains("instance_live"), "{when}:\n{plan}");
            assert!(!plan.contains("Seq Scan"), "{when}:\n{plan}");
            assert!(!plan.contains("instance_pkey"), "{when}:\n{plan}");
        }
    }
    world.engine().abandon();
}

#[tokio::test]
async fn looking_for_due_schedules_looks_at_no_firing_that_is_settled() {
    let world = World::new().await;
    let mut database = world.database().await;
    for statement in [FIRINGS, "analyze"] {
        database.execute(statement).await.unwrap();
        for mode in ["force_generic_plan", "force_custom_plan"] {
            let set = format!("set plan_cache_mode = {mode}");
            database.execute(AssertSqlSafe(set)).await.unwrap();
            let plan = plan(&mut database, DUE, 5).await;
            assert!(plan.contains("firing_planned"), "{mode}:\n{plan}");
            assert!(!plan.contains("Seq Scan on firing"), "{mode}:\n{plan}");
        }
    }
    world.engine().abandon();
}

/// 200,000 instances, each second one the child of the one before it.
const FAMILIES: &str = "
    with parent as (
        insert into amends.instance
            (instance_id, workflow, version, business_key, status, attributes,
             head_seq, head_hash, created_at, updated_at)
        select gen_random_uuid(), 'w', 1, 'p/' || n, 'waiting', '{}', 0, sha256('x'), now(), now()
        from generate_series(1, 100000) n
        returning instance_id
    )
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, attributes,
         head_seq, head_hash, created_at, updated_at, parent_id)
    select gen_random_uuid(), 'w', 1, 'c/' || instance_id, 'waiting', '{}', 0, sha256('x'), now(),
           now(), instance_id
    from parent";

#[tokio::test]
async fn a_family_is_found_by_the_index_of_parents_and_nothing_else_is_looked_at() {
    let world = World::new().await;
    let mut database = world.database().await;
    for filling in [CROWD, FAMILIES] {
        database.execute(filling).await.unwrap();
        database.execute("analyze").await.unwrap();
        for mode in ["force_generic_plan", "force_custom_plan"] {
            let set = format!("set plan_cache_mode = {mode}");
            database.execute(AssertSqlSafe(set)).await.unwrap();
            for (statement, arguments, index) in [
                (LOCK_FAMILY, 1, "instance_parent"),
                (FAMILY, 1, "instance_parent"),
                (TELL_FAMILY, 7, "instance_pkey"),
            ] {
                let plan = plan(&mut database, statement, arguments).await;
                assert!(plan.contains(index), "{mode}:\n{plan}");
                assert!(!plan.contains("Seq Scan on instance"), "{mode}:\n{plan}");
            }
        }
    }
    world.engine().abandon();
}
