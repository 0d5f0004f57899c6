//! What claims cost beside so many due instances of a version that nobody runs.

use std::time::{Duration, Instant};

use amends::{Engine, Settings};
use amends_tests::booking::{Book, Booking};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

const CLAIMS: usize = 500;

/// Claims beside none, and then beside `count` of them.
pub(crate) async fn measure(options: PgConnectOptions, count: usize) {
    let book = Book::default();
    // Its own loop looks seldom.
    let settings = Settings { poll: Duration::from_secs(3600), ..Settings::default() };
    let builder = Engine::builder(options.clone()).workflow(Booking::with(&book));
    let engine = builder.settings(settings).open().await.expect("the engine opens");
    println!("beside none: {}", claims(&engine).await);
    let mut database = options.connect().await.expect("the database answers");
    let due = "insert into amends.instance
                   (instance_id, workflow, version, business_key, status, run_at, attributes,
                    head_seq, head_hash, created_at, updated_at)
               select gen_random_uuid(), 'booking', 9, 'foreign/' || n, 'waiting',
                      now() - interval '1 hour', '{}', 0, sha256('x'), now(), now()
               from generate_series(1, $1) n";
    sqlx::query(due).bind(count as i64).execute(&mut database).await.expect("they can be made");
    database.execute("vacuum analyze amends.instance").await.expect("it can be tidied");
    println!("beside {count}: {}", claims(&engine).await);
    engine.shutdown().await.expect("it leaves");
}

/// How long claims take that find nothing.
async fn claims(engine: &Engine) -> String {
    let mut took = Vec::with_capacity(CLAIMS);
    for _ in 0..CLAIMS {
        let begun = Instant::now();
        engine.claim().await.expect("the database answers");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took[CLAIMS * share / 100].as_secs_f64() * 1_000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
}
