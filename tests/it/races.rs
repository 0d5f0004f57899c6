//! Races, each a thousand times, with jitter that follows from a seed: whoever is told something is
//! told the truth, as the clerk's own book and the histories show, and each side wins now and then.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amends::command::{Answer, Command};
use amends::probe::Probes;
use amends::view::RecordView;
use amends::{Engine, Settings, Signalled, Started, Status};
use amends_tests::booking::{Book, Booked, Booking, Order, PATIENCE, news, start};
use amends_tests::chance::Chance;
use amends_tests::crash::Crash;
use amends_tests::kit::{Kit, KitBuilder};
use futures::future::join_all;
use tokio::sync::Notify;
use uuid::Uuid;

pub(super) const TIMES: usize = 1_000;
/// How many race at the same time.
pub(super) const AT_ONCE: usize = 50;
/// Nobody wins by accident alone.
const WINS_MIN: usize = 25;

const BOTH_PLACES: Booked = Booked { taken: 2, given_back: 0 };

async fn kit(builder: KitBuilder, book: &Book) -> Kit {
    let book = book.clone();
    builder.build(move |engine| engine.workflow(Booking::with(&book))).await
}

/// The keys of each turn.
pub(super) fn turns() -> impl Iterator<Item = Vec<String>> {
    (0..TIMES / AT_ONCE).map(|turn| (0..AT_ONCE).map(|n| format!("{turn}/{n}")).collect())
}

/// A race of two sides. Whoever wins most of a turn starts later in the next one, so that neither
/// the machine's speed nor its load decides who is ever tried.
pub(super) struct Race {
    chance: Chance,
    wins: [usize; 2],
    /// By how much the first side starts later than the second one, in microseconds.
    lag: i64,
    /// How much `lag` was changed by last; it grows until the lead changes hands.
    stride: i64,
}

impl Race {
    /// How much later than it may a side starts by accident.
    const JITTER_MICROS: u64 = 200;

    pub(super) fn seeded(seed: u64) -> Self {
        Self { chance: Chance::seeded(seed), wins: [0; 2], lag: 0, stride: 0 }
    }

    pub(super) async fn first_may_start(&self) {
        self.dawdle(Self::handicap(self.lag)).await;
    }

    pub(super) async fn second_may_start(&self) {
        self.dawdle(self.handicap_of_second()).await;
    }

    pub(super) fn handicap_of_second(&self) -> Duration {
        Self::handicap(-self.lag)
    }

    fn handicap(lag: i64) -> Duration {
        Duration::from_micros(lag.max(0).unsigned_abs())
    }

    /// Lets others go on for a while, to the microsecond, which no timer does.
    #[expect(clippy::disallowed_methods, reason = "the database lives in real time")]
    async fn dawdle(&self, handicap: Duration) {
        let jitter = Duration::from_micros(self.chance.below(Self::JITTER_MICROS));
        let until = Instant::now() + handicap + jitter;
        while Instant::now() < until {
            tokio::task::yield_now().await;
        }
    }

    /// Takes note of who won how often in a turn.
    pub(super) fn turn(&mut self, first: usize, second: usize) {
        self.wins[0] += first;
        self.wins[1] += second;
        let direction = match first.cmp(&second) {
            Ordering::Less => -1,
            Ordering::Equal => return,
            Ordering::Greater => 1,
        };
        self.stride = match self.stride * direction {
            0 => 100 * direction,
            same if same > 0 => self.stride * 2,
            _ => -self.stride / 2,
        };
        self.lag += self.stride;
    }

    pub(super) fn both_have_won(&self) {
        let [first, second] = self.wins;
        assert_eq!(first + second, TIMES);
        assert!(first.min(second) >= WINS_MIN, "{first} to {second}");
    }
}

#[tokio::test]
async fn a_cancel_wins_against_the_end_or_is_told_that_it_was_too_late() {
    let (book, mut race) = (Book::default(), Race::seeded(1));
    let kit = kit(Kit::builder(), &book).await;
    for keys in turns() {
        let (mut cancelled, mut completed) = (0, 0);
        book.pace(race.handicap_of_second());
        let answers = join_all(keys.iter().map(async |key| {
            let id = kit.begin(start(key, Order::Straight)).await;
            race.first_may_start().await;
            (id, kit.command(id, Command::Cancel).await)
        }));
        let answers = answers.await;
        kit.settle().await;
        for (key, (id, answer)) in keys.iter().zip(answers) {
            let booked = book.of(key);
            match (answer, kit.status(id).await) {
                (Answer::Accepted, Status::Cancelled) => {
                    assert_eq!(booked.taken, booked.given_back, "{key}");
                    cancelled += 1;
                }
                (Answer::AlreadyEnded, Status::Completed) => {
                    assert_eq!(booked, BOTH_PLACES, "{key}");
                    completed += 1;
                }
                untrue => panic!("{key}: {untrue:?}"),
            }
        }
        race.turn(cancelled, completed);
    }
    race.both_have_won();
    kit.finish().await;
}

#[tokio::test]
async fn a_signal_is_taken_whether_it_comes_before_its_instance_or_after() {
    let (book, mut race) = (Book::default(), Race::seeded(2));
    let kit = kit(Kit::builder(), &book).await;
    for keys in turns() {
        let (mut early, mut late) = (0, 0);
        let answers = join_all(keys.iter().map(async |key| {
            let starts = async {
                race.second_may_start().await;
                kit.begin(start(key, Order::AfterNews)).await
            };
            let sends = async {
                race.first_may_start().await;
                kit.engine().signal(news(key, "1")).await.unwrap()
            };
            tokio::join!(starts, sends)
        }));
        let answers = answers.await;
        kit.settle().await;
        for (key, (id, answer)) in keys.iter().zip(answers) {
            match answer {
                Signalled::Kept => early += 1,
                Signalled::Accepted(to) if to == id => late += 1,
                untrue => panic!("{key}: {untrue:?}"),
            }
            assert_eq!(kit.status(id).await, Status::Completed, "{key}, told {answer:?}");
            assert!(kit.output::<Booking>(id).await, "{key} has not heard of it");
            assert_eq!(book.of(key), BOTH_PLACES, "{key}");
        }
        race.turn(early, late);
    }
    race.both_have_won();
    kit.finish().await;
}

#[tokio::test]
async fn a_signal_that_its_instance_took_while_the_sender_looked_again_was_not_too_late() {
    let (is_kept, may_go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let probes = {
        let (is_kept, may_go_on) = (Arc::clone(&is_kept), Arc::clone(&may_go_on));
        Probes::new(move |point| {
            let (is_kept, may_go_on) = (Arc::clone(&is_kept), Arc::clone(&may_go_on));
            Box::pin(async move {
                if point == "signal.kept" {
                    is_kept.notify_one();
                    may_go_on.notified().await;
                }
            })
        })
    };
    let kit = kit(Kit::builder().probes(probes), &Book::default()).await;
    let instance = async {
        is_kept.notified().await;
        let id = kit.begin(start("it", Order::AfterNews)).await;
        kit.settle().await;
        assert_eq!(kit.status(id).await, Status::Completed);
        may_go_on.notify_one();
        id
    };
    let engine = kit.engine();
    let (id, answer) = tokio::join!(instance, engine.signal(news("it", "1")));
    assert_eq!(answer.unwrap(), Signalled::Accepted(id));
    kit.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_as_the_wait_runs_out_is_taken_or_on_record_or_told_it_was_too_late() {
    let (book, mut race) = (Book::default(), Race::seeded(3));
    let kit = kit(Kit::builder(), &book).await;
    for keys in turns() {
        let (mut taken, mut missed) = (0, 0);
        let ids = join_all(keys.iter().map(|key| kit.begin(start(key, Order::AfterNews)))).await;
        kit.settle().await;
        let runs_out = async {
            race.second_may_start().await;
            kit.advance(PATIENCE);
            kit.settle().await;
        };
        let sends = join_all(keys.iter().map(async |key| {
            race.first_may_start().await;
            kit.engine().signal(news(key, "1")).await.unwrap()
        }));
        let (answers, ()) = tokio::join!(sends, runs_out);
        kit.settle().await;
        for ((key, id), answer) in keys.iter().zip(ids).zip(answers) {
            let heard = kit.output::<Booking>(id).await;
            let history = kit.history(id).await;
            let on_record = history.iter().any(|record| record.kind == "signal");
            match answer {
                Signalled::Accepted(_) => assert!(on_record, "{key}: accepted, and gone"),
                Signalled::AlreadyEnded(_) => assert!(!on_record && !heard, "{key}: not refused"),
                untrue => panic!("{key}: {untrue:?}"),
            }
            assert_eq!(book.of(key), BOTH_PLACES, "{key}");
            if heard { taken += 1 } else { missed += 1 }
        }
        race.turn(taken, missed);
    }
    race.both_have_won();
    kit.finish().await;
}

/// How many workers an engine has taken over.
fn taken_over(engine: &Engine) -> usize {
    let mut registry = prometheus_client::registry::Registry::default();
    engine.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find(|line| line.starts_with("amends_workers_taken_over_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Has each instance held by a worker of its own that nobody has heard of for long.
async fn lose_workers(kit: &Kit, ids: &[Uuid]) {
    let lose = "with lost as (
                    insert into amends.worker (worker_id, name, started_at, lease_until, relays)
                    select gen_random_uuid(), id::text, $2, $2, false from unnest($1) id
                    returning worker_id, name
                )
                update amends.instance i
                set worker_id = lost.worker_id, run_at = null, status = 'running'
                from lost where lost.name = i.instance_id::text";
    sqlx::query(lose)
        .bind(ids)
        .bind(kit.now() - Settings::default().lease)
        .execute(&mut kit.database().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn of_two_workers_who_take_over_a_third_one_does() {
    let (book, mut race) = (Book::default(), Race::seeded(4));
    let mut kit = kit(Kit::builder(), &book).await;
    let first = kit.engine();
    let beside = kit.succeed().await;
    let second = kit.engine();
    let ids = join_all(
        (0..AT_ONCE).map(async |n| kit.begin(start(&n.to_string(), Order::AfterNews)).await),
    );
    let ids = ids.await;
    kit.settle().await;
    for _ in 0..TIMES / AT_ONCE {
        lose_workers(&kit, &ids).await;
        let before = [taken_over(&first), taken_over(&second)];
        let first_takes_over = async {
            race.first_may_start().await;
            beside.run_dry().await;
        };
        let second_takes_over = async {
            race.second_may_start().await;
            kit.settle().await;
        };
        tokio::join!(first_takes_over, second_takes_over);
        race.turn(taken_over(&first) - before[0], taken_over(&second) - before[1]);
    }
    race.both_have_won();
    for (n, id) in ids.iter().enumerate() {
        let history = kit.history(*id).await;
        let losses = history.iter().filter(|record| record.kind == "worker_lost").count();
        assert_eq!(losses, TIMES / AT_ONCE, "{n} was freed as often as its worker was lost");
        assert_eq!(book.of(&n.to_string()), Booked { taken: 1, given_back: 0 });
    }
    kit.finish().await;
}

#[tokio::test]
async fn a_worker_that_goes_on_while_it_is_taken_over_writes_before_that_or_not_at_all() {
    let mut race = Race::seeded(5);
    for keys in turns() {
        let (mut by_the_first, mut by_another) = (0, 0);
        let book = Book::default();
        // The first points lie before anybody is told that his booking has begun.
        let nth = AT_ONCE + race.chance.below(4 * AT_ONCE as u64) as usize;
        let (crash, probes) = Crash::at(Some(nth));
        let mut kit = kit(Kit::builder().probes(probes), &book).await;
        let first = kit.engine();
        let begins = keys.iter().map(|key| first.start(start(key, Order::Straight)));
        tokio::select! {
            _ = join_all(begins) => crash.happened().await,
            () = crash.happened() => {}
        }
        // Whoever succeeds it has a fresh lease, which the one that goes on cannot take over.
        kit.advance(Settings::default().lease + Duration::from_secs(1));
        let stopped = kit.succeed().await;
        let goes_on = async {
            race.first_may_start().await;
            crash.release();
            stopped.run_dry().await;
        };
        let is_taken_over = async {
            race.second_may_start().await;
            kit.settle().await;
        };
        tokio::join!(goes_on, is_taken_over);
        for key in &keys {
            // Whoever got no answer asks again.
            let begun = kit.request(start(key, Order::Straight)).await.unwrap();
            let (Started::New(id) | Started::Duplicate(id)) = begun else { panic!("{begun:?}") };
            kit.settle().await;
            assert_eq!(kit.status(id).await, Status::Completed, "{key}");
            assert_eq!(book.of(key), BOTH_PLACES, "{key}");
            let is_taken_over = |record: &RecordView| record.kind == "worker_lost";
            let records = kit.history(id).await;
            if records.iter().any(is_taken_over) { by_another += 1 } else { by_the_first += 1 }
        }
        kit.finish().await;
        race.turn(by_the_first, by_another);
    }
    race.both_have_won();
}
