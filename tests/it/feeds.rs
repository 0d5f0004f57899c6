//! Receivers that refuse, hang or are down: each costs its own subscription, and there only what it
//! refuses.

mod locked;

use std::time::Duration;

use amends::blocked::{AtHead, BlockedKey, KeyAnswer, KeyCommand};
use amends::{Engine, Event, Halt, Milestone, Priority, Saga, Settings, Start, Steps, Workflow};
use amends_tests::chance::Chance;
use amends_tests::cluster;
use amends_tests::detour::{Detour, Loss};
use amends_tests::durable::Durable;
use amends_tests::kit::{Kit, KitBuilder};
use amends_tests::process::eventually;
use amends_tests::receiver::{Fate, Receiver};
use amends_tests::told::{Tells, start};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::everywhere::stored;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [u32; 3] = [1, 2, 3];
/// Keys that are refused.
const MANY: usize = 3_000;
/// Deliveries of a subscription that are under way at most.
const UNDER_WAY_MAX: usize = 64;
/// How long it takes at most until a receiver is asked again.
const PAUSE: Duration = Duration::from_secs(2);

fn refuses(what: &'static str) -> impl Fn(&str) -> Fate + Send + Sync + 'static {
    move |key| if key.starts_with(what) { Fate::Refused } else { Fate::Taken }
}

async fn kit_on(builder: KitBuilder, receivers: &[(&'static str, &Receiver)]) -> Kit {
    let receivers: Vec<_> = receivers.iter().map(|(name, it)| (*name, (*it).clone())).collect();
    let build = builder.build(move |engine| {
        let engine = engine.workflow(Tells).workflow(Drip);
        receivers.iter().fold(engine, |engine, (name, it)| engine.subscription(name, it.clone()))
    });
    build.await
}

async fn kit(receivers: &[(&'static str, &Receiver)]) -> Kit {
    kit_on(Kit::builder(), receivers).await
}

async fn start_all(kit: &Kit, what: &str, count: usize) {
    for number in 0..count {
        start(&kit.engine(), format!("{what}/{number}")).await;
    }
}

/// Everything that has not arrived is taken, and arrives in order.
async fn finish(kit: Kit, receiver: &Receiver, events: usize) {
    receiver.answer(|_| Fate::Taken);
    // Longer than the longest pause between two attempts.
    for _ in 0..2 {
        kit.pass(Duration::from_secs(301)).await;
    }
    assert_eq!(receiver.taken_in_all(), events);
    assert_eq!(receiver.out_of_order(), Vec::<String>::new());
    assert_eq!(kit.engine().blocked_keys(None, 1).await.unwrap(), []);
    let left =
        "select (select count(*) from amends.outbox) + (select count(*) from amends.key_block)";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut kit.database().await).await.unwrap();
    assert_eq!(left, 0);
    kit.finish().await;
}

#[tokio::test]
async fn new_orders_leave_at_once_beside_thousands_that_are_refused() {
    let receiver = Receiver::new(refuses("refused"));
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "refused", MANY).await;
    kit.settle().await;
    for round in 0..3 {
        let what = format!("new/{round}");
        start_all(&kit, &what, 4).await;
        kit.pass(PAUSE).await;
        for number in 0..4 {
            assert_eq!(receiver.taken(&format!("{what}/{number}")), ALL, "{what}/{number}");
        }
    }
    finish(kit, &receiver, (MANY + 12) * Tells::EVENTS).await;
}

/// More than fits into memory, so that what is new would not be seen behind it.
#[tokio::test]
async fn new_orders_leave_at_once_beside_more_refused_rows_than_a_feed_holds() {
    let receiver = Receiver::new(refuses("refused"));
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "refused", 1).await;
    kit.settle().await;
    let more = "insert into amends.outbox
                    (subscription, shard, workflow, key, instance_id, seq, ordinal)
                select 'events', n % 16, 'tells', 'refused/more/' || n, instance_id, seq, 0
                from amends.record, generate_series(1, 20000) n
                where seq = 0";
    kit.database().await.execute(more).await.unwrap();
    kit.settle().await;
    start_all(&kit, "new", 4).await;
    // The receiver may be asked before everything new has been read, and again after a pause.
    for _ in 0..2 {
        kit.pass(PAUSE).await;
    }
    for number in 0..4 {
        assert_eq!(receiver.taken(&format!("new/{number}")), ALL);
    }
    assert!(receiver.asked() < 1_000, "{} times", receiver.asked());
    finish(kit, &receiver, 5 * Tells::EVENTS + 20_000).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_its_own_subscription_only() {
    let (hangs, takes) = (Receiver::new(|_| Fate::Unanswered), Receiver::new(|_| Fate::Taken));
    let kit = kit(&[("hangs", &hangs), ("takes", &takes)]).await;
    // More than may be under way, and more than one scan of it.
    start_all(&kit, "order", 2 * UNDER_WAY_MAX).await;
    tokio::join!(kit.settle(), async {
        eventually("the other subscription has everything", PATIENCE, || async {
            match takes.taken_in_all() {
                all if all == 2 * UNDER_WAY_MAX * Tells::EVENTS => Ok(()),
                some => Err(format!("{some} events")),
            }
        })
        .await;
        assert_eq!((hangs.asked(), hangs.taken_in_all()), (UNDER_WAY_MAX, 0));
        hangs.answer(|_| Fate::Taken);
    });
    assert_eq!(hangs.out_of_order(), Vec::<String>::new());
    finish(kit, &hangs, 2 * UNDER_WAY_MAX * Tells::EVENTS).await;
}

#[tokio::test]
async fn a_statement_that_has_no_answer_keeps_no_other_subscription_waiting() {
    let (silent, free) = (Receiver::new(refuses("")), Receiver::new(|_| Fate::Taken));
    let kit = kit(&[("free", &free), ("silent", &silent)]).await;
    start_all(&kit, "order", 1).await;
    kit.settle().await;
    let mut stranger = kit.database().await;
    let wait = "create table public.hold as select 1 as one;
                create function public.wait() returns trigger language plpgsql as $$ begin
                    while exists (select from public.hold) loop
                        perform pg_sleep(0.01);
                    end loop;
                    return new;
                end $$;
                create trigger wait before insert or update on amends.key_block
                    for each row execute function public.wait()";
    stranger.execute(wait).await.unwrap();
    kit.advance(PAUSE);
    start_all(&kit, "later", 1).await;
    tokio::join!(kit.settle(), async {
        eventually("the other subscription has it", PATIENCE, || async {
            let taken = free.taken("later/0");
            if taken == ALL { Ok(()) } else { Err(format!("{taken:?}")) }
        })
        .await;
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event = 'PgSleep'";
        eventually("the silent one waits", PATIENCE, || async {
            let waiting: i64 =
                sqlx::query_scalar(waiting).fetch_one(&mut kit.database().await).await.unwrap();
            if waiting == 1 { Ok(()) } else { Err(format!("{waiting} wait")) }
        })
        .await;
        stranger.execute("delete from public.hold").await.unwrap();
    });
    finish(kit, &silent, 2 * Tells::EVENTS).await;
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_is_asked_little_and_is_found_soon_when_it_is_back() {
    let receiver = Receiver::new(refuses(""));
    let kit = kit(&[("events", &receiver)]).await;
    let keys = 400;
    start_all(&kit, "order", keys).await;
    kit.settle().await;
    // Those that were under way, and those that began until it was clear.
    assert!(receiver.asked() < UNDER_WAY_MAX + 16, "{} times at once", receiver.asked());
    for _ in 0..30 {
        let asked = receiver.asked();
        kit.pass(SECOND).await;
        assert!(receiver.asked() - asked <= 2, "{} times a second", receiver.asked() - asked);
    }
    let asked = receiver.asked();
    kit.pass(PAUSE).await;
    assert!(receiver.asked() > asked, "nobody looks whether it is back");
    receiver.answer(|_| Fate::Taken);
    kit.pass(PAUSE).await;
    // All but what was tried before, and has a time of its own.
    assert!(receiver.taken_in_all() >= (keys - UNDER_WAY_MAX - 64) * Tells::EVENTS);
    finish(kit, &receiver, keys * Tells::EVENTS).await;
}

#[tokio::test]
async fn a_block_that_the_database_refuses_costs_its_own_key_only() {
    let receiver = Receiver::new(refuses("order"));
    let kit = kit(&[("events", &receiver)]).await;
    kit.database()
        .await
        .execute(
            "create function public.refuse() returns trigger language plpgsql as $$ begin
                 if new.key = 'order/7' then raise 'not this one'; end if;
                 return new;
             end $$;
             create trigger refuse before insert or update on amends.key_block
                 for each row execute function public.refuse()",
        )
        .await
        .unwrap();
    start_all(&kit, "order", 12).await;
    kit.settle().await;
    start_all(&kit, "new", 1).await;
    kit.pass(PAUSE).await;
    assert_eq!(receiver.taken("new/0"), ALL);
    let blocked = "select key from amends.key_block order by key";
    let mut database = kit.database().await;
    let blocked: Vec<String> = sqlx::query_scalar(blocked).fetch_all(&mut database).await.unwrap();
    assert_eq!(blocked.len(), 11, "{blocked:?}");
    // Nothing of it overtakes its head meanwhile.
    receiver.answer(|_| Fate::Taken);
    kit.pass(PAUSE).await;
    assert_eq!(receiver.taken("order/7"), Vec::<u32>::new());
    database.execute("drop trigger refuse on amends.key_block").await.unwrap();
    finish(kit, &receiver, 13 * Tells::EVENTS).await;
}

/// The block of a key, as it stands in the database.
async fn block(kit: &Kit) -> Option<String> {
    sqlx::query_scalar("select b::text from amends.key_block b")
        .fetch_optional(&mut kit.database().await)
        .await
        .unwrap()
}

async fn blocked(kit: &Kit) -> BlockedKey {
    let blocked = kit.engine().blocked_keys(None, 2).await.unwrap();
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    blocked.into_iter().next().unwrap()
}

async fn skip(kit: &Kit) {
    let head = blocked(kit).await;
    let event = AtHead { subscription: "events", key: &head.key, event_id: &head.event_id };
    let skipped = kit.engine().command_key(event, KeyCommand::Skip, "anna", "by phone").await;
    assert_eq!(skipped.unwrap(), Some(KeyAnswer::Accepted));
}

/// Its worker's row is gone, and it does not know it yet.
#[tokio::test]
async fn a_relay_that_has_lost_its_worker_changes_no_block() {
    // What it does to a key whose head is taken, is refused once more, or is gone.
    for (what, fate) in
        [("taken", Fate::Taken), ("refused", Fate::Refused), ("gone", Fate::Refused)]
    {
        let receiver = Receiver::new(refuses(""));
        let mut kit = kit(&[("events", &receiver)]).await;
        start_all(&kit, "order", 1).await;
        kit.settle().await;
        let zombie = kit.succeed().await;
        skip(&kit).await;
        let mut database = kit.database().await;
        let lost = "delete from amends.worker w
                    where exists (select from amends.outbox_shard s where s.worker_id = w.worker_id)";
        let lost = database.execute(lost).await.unwrap();
        assert_eq!(lost.rows_affected(), 1);
        if what == "gone" {
            database.execute("delete from amends.outbox where ordinal = 0").await.unwrap();
        }
        let (before, asked) = (block(&kit).await, receiver.asked());
        receiver.answer(move |_| fate);
        kit.advance(PAUSE);
        zombie.run_dry().await;
        assert_eq!(block(&kit).await, before, "{what}");
        assert_eq!(receiver.asked() > asked, what != "gone", "it has tried what is {what}");
        // The next relay of these shards finds what a person has asked for.
        let free = "update amends.outbox_shard set worker_id = null";
        database.execute(free).await.unwrap();
        let taken = receiver.taken_in_all();
        let events = if what == "gone" { 0 } else { Tells::EVENTS };
        finish(kit, &receiver, taken + events).await;
    }
}

#[tokio::test]
async fn a_block_that_is_over_is_not_forgotten_by_a_relay_that_has_lost_its_worker() {
    let receiver = Receiver::new(refuses(""));
    let mut kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "order", 1).await;
    kit.settle().await;
    let zombie = kit.succeed().await;
    let mut database = kit.database().await;
    // As one that another relay has left for a sweep.
    let over = "update amends.key_block set outbox_id = null, event_id = null";
    database.execute(over).await.unwrap();
    let gone = "delete from amends.worker w
                where exists (select from amends.outbox_shard s where s.worker_id = w.worker_id)";
    database.execute(gone).await.unwrap();
    let before = block(&kit).await;
    assert!(before.is_some());
    kit.advance(PAUSE);
    zombie.run_dry().await;
    let after = block(&kit).await;
    assert_eq!(after, before);
    database.execute("update amends.outbox_shard set worker_id = null").await.unwrap();
    finish(kit, &receiver, Tells::EVENTS).await;
}

#[tokio::test]
async fn a_skip_that_comes_during_an_attempt_is_heard_after_it() {
    let receiver = Receiver::new(refuses(""));
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "order", 1).await;
    kit.settle().await;
    receiver.answer(|_| Fate::Unanswered);
    let asked = receiver.asked();
    kit.advance(PAUSE);
    tokio::join!(kit.settle(), async {
        eventually("it is tried", PATIENCE, || async {
            if receiver.asked() > asked { Ok(()) } else { Err("it is not".to_owned()) }
        })
        .await;
        skip(&kit).await;
        receiver.answer(refuses(""));
    });
    let waits = blocked(&kit).await;
    assert_eq!(waits.attempts, 3, "once more, and that was the one that said so");
    receiver.answer(|_| Fate::Taken);
    kit.pass(Duration::from_secs(301)).await;
    assert_eq!(receiver.taken("order/0"), ALL);
    finish(kit, &receiver, Tells::EVENTS).await;
}

/// The head is taken, and then the database hears late that its block is over, or forgets it late.
#[tokio::test]
async fn what_the_database_hears_late_of_a_block_changes_nothing() {
    for statement in ["heard = b.commands, tried_at", "then (select count(*) from gone) end"] {
        let (detour, receiver) = (Detour::default(), Receiver::new(refuses("")));
        let kit = kit_on(Kit::builder().detour(&detour), &[("events", &receiver)]).await;
        begin_dripping(&kit, "drip/0").await;
        for _ in 0..3 {
            kit.pass(SECOND).await;
        }
        detour.lose_next(&stored(statement), Loss::Late);
        receiver.answer(|_| Fate::Taken);
        for _ in 0..DROPS {
            kit.pass(2 * SECOND).await;
        }
        assert_eq!(detour.lost(), [stored(statement)]);
        finish(kit, &receiver, DROPS as usize + 2).await;
    }
}

/// How often a [`Drip`] tells of itself.
const DROPS: u32 = 12;

/// Tells of itself once a second.
struct Drip;

impl Workflow for Drip {
    const NAME: &'static str = "drip";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        match milestone {
            Milestone::Started { .. } => vec![Event::new("STARTED", &1)],
            Milestone::Completed { .. } => vec![Event::new("COMPLETED", &2)],
            _ => vec![],
        }
    }

    async fn run(&self, saga: &Saga, input: String) -> Result<String, Halt> {
        for drop in 0..DROPS {
            saga.publish(Event::new("DROP", &drop)).await?;
            saga.sleep(SECOND).await?;
        }
        Ok(input)
    }
}

async fn begin_dripping(kit: &Kit, business_key: &str) {
    let request = Start {
        workflow: Drip::NAME,
        business_key: business_key.to_owned(),
        input: "\"it\"".to_owned(),
        delivery: None,
        priority: Priority::Normal,
    };
    kit.begin(request).await;
}

/// Keys are refused and taken in turns while they publish, and relays come and go.
#[tokio::test]
async fn order_is_kept_whatever_is_refused_and_when() {
    const KEYS: usize = 40;
    let receiver = Receiver::new(|_| Fate::Taken);
    let mut kit = kit(&[("events", &receiver)]).await;
    for number in 0..KEYS {
        begin_dripping(&kit, &format!("drip/{number}")).await;
    }
    let chance = Chance::seeded(60);
    for round in 0..40_u64 {
        let (seed, most) = (chance.below(1 << 30), [2, 8, 1][round as usize % 3]);
        receiver.answer(move |key| {
            let draw = key.bytes().fold(seed, |draw, byte| (draw ^ u64::from(byte)) * 31 % 65_521);
            if draw % 10 < most { Fate::Refused } else { Fate::Taken }
        });
        match round % 10 {
            4 => kit.restart().await,
            8 => {
                kit.crash().await;
                kit.outlive_lease().await;
            }
            _ => kit.pass(SECOND).await,
        }
        assert_eq!(receiver.out_of_order(), Vec::<String>::new(), "in round {round}");
    }
    finish(kit, &receiver, KEYS * (DROPS as usize + 2)).await;
}

const LOAD: i64 = 6_000;

/// Engines keep time by the clock on the wall where shards are handed over under load.
async fn server(options: &PgConnectOptions, receiver: &Receiver) -> Engine {
    let builder = Engine::builder(options.clone()).workflow(Tells);
    let settings = Settings { poll: Duration::from_millis(50), ..Settings::default() };
    builder.subscription("events", receiver.clone()).settings(settings).open().await.unwrap()
}

async fn count(options: &PgConnectOptions, what: &str) -> i64 {
    let mut database = options.connect().await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}")))
        .fetch_one(&mut database)
        .await
        .unwrap()
}

/// Nothing of a receiver that hangs comes to an end, so a relay that waits until nothing is under way
/// waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_server_gets_its_share_of_the_shards_while_the_old_one_is_busy() {
    let folder = cluster::scratch().join(format!("feeds-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let postgres = Durable::start(&folder).await;
    let options = postgres.options();
    let hangs = |key: &str| {
        if key.starts_with("load/1") { Fate::Unanswered } else { Fate::Taken }
    };
    let receiver = Receiver::new(hangs);
    let old = server(&options, &receiver).await;
    start(&old, "load/1/0".to_owned()).await;
    let load = format!(
        "insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
         select 'events', n % 16, 'tells', 'load/1/' || n, instance_id, seq, 0
         from amends.record, generate_series(1, {LOAD}) n where seq = 0"
    );
    options.connect().await.unwrap().execute(AssertSqlSafe(load)).await.unwrap();
    eventually("the old server is busy", PATIENCE, || async {
        let asked = receiver.asked();
        if asked == UNDER_WAY_MAX { Ok(()) } else { Err(format!("{asked} deliveries")) }
    })
    .await;
    let new = server(&options, &receiver).await;
    eventually("the shards are shared", PATIENCE, || async {
        let each = "(select from amends.outbox_shard where worker_id is not null
                     group by worker_id having count(*) = 8) share";
        let fair = count(&options, each).await;
        if fair == 2 { Ok(()) } else { Err(format!("{fair} have their share")) }
    })
    .await;
    receiver.answer(|_| Fate::Taken);
    eventually("everything has arrived", PATIENCE, || async {
        let left = count(&options, "amends.outbox").await;
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await;
    for engine in [old, new] {
        engine.shutdown().await.unwrap();
    }
    postgres.stop().await;
}
