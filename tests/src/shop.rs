//! A shop whose stock is a table beside the engine's own: its steps are transactions.
//!
//! Every application of a step leaves a row of its own in `shop.taken`, so that twice shows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::{
    Call, Declaration, Event, Halt, InTransaction, Moment, Money, Movement, MovementKind,
    PgConnection, RetryPolicy, Saga, Start, Started, StepError, Steps, TransactionStep,
    TransactionUndo, Undone, Workflow,
};
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::improvised::{A, Part};
use crate::scripted::Act;
use crate::{World, WorldBuilder};

/// What a run answers.
pub type Ran<'a> = BoxFuture<'a, Result<String, Halt>>;

type Run = dyn for<'a> Fn(&'a Saga, &'a Shop, String) -> Ran<'a> + Send + Sync;

/// Something that an attempt does after it has taken the stock.
pub type Also =
    Arc<dyn for<'c> Fn(&'c mut PgConnection, &'c Call) -> BoxFuture<'c, ()> + Send + Sync>;

/// The steps of the shop. Clones share everything.
#[derive(Clone, Default)]
pub struct Shop {
    /// Takes a piece of each article, in their order.
    pub take: Take,
    /// An ordinary step, named `a`.
    pub a: Part<A>,
}

/// Takes a piece of each article that its input names, separated by commas.
#[derive(Clone, Default)]
pub struct Take {
    acts: Arc<Mutex<VecDeque<Act>>>,
    undos: Arc<Mutex<VecDeque<Act>>>,
    also: Option<Also>,
    timeout: Option<Duration>,
    money: Option<&'static str>,
}

impl Take {
    /// How the next attempts end once their SQL is done.
    #[must_use]
    pub fn acts(self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts.lock().expect("no test panics here").extend(acts);
        self
    }

    /// How the next undos end once their SQL is done.
    #[must_use]
    pub fn undos(self, undos: impl IntoIterator<Item = Act>) -> Self {
        self.undos.lock().expect("no test panics here").extend(undos);
        self
    }

    /// What is done besides after each article.
    #[must_use]
    pub fn also(
        mut self,
        also: impl for<'c> Fn(&'c mut PgConnection, &'c Call) -> BoxFuture<'c, ()>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.also = Some(Arc::new(also));
        self
    }

    /// The step takes money, under this reference.
    #[must_use]
    pub fn takes_money_under(mut self, reference: &'static str) -> Self {
        self.money = Some(reference);
        self
    }

    /// How long an attempt may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

async fn end(acts: &Mutex<VecDeque<Act>>) -> Result<(), StepError> {
    let act = acts.lock().expect("no test panics here").pop_front();
    act.unwrap_or(Act::Succeed).perform(()).await
}

impl TransactionStep for Take {
    const NAME: &'static str = "take";
    type Input = String;
    type Output = String;

    fn declare(&self) -> Declaration<Self, InTransaction> {
        let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let declared = Declaration::transaction().undo().retry(retry.clone()).undo_retry(retry);
        match self.timeout {
            Some(timeout) => declared.timeout(timeout),
            None => declared,
        }
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        input: &String,
    ) -> Result<String, StepError> {
        for article in input.split(',') {
            let taken = "update shop.stock set pieces = pieces - 1
                         where article = $1 and pieces > 0";
            let taken = sqlx::query(taken).bind(article).execute(&mut *connection).await?;
            if taken.rows_affected() == 0 {
                return Err(StepError::fail("OUT_OF_STOCK", "sold out"));
            }
            let row = "insert into shop.taken (key, article) values ($1, $2)";
            sqlx::query(row).bind(call.key()).bind(article).execute(&mut *connection).await?;
            if let Some(also) = &self.also {
                also(connection, call).await;
            }
        }
        end(&self.acts).await.map(|()| input.clone())
    }

    fn events(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Event> {
        match moment {
            Moment::Done { input, .. } => vec![Event::new("TAKEN", input)],
            Moment::Failed { .. } => Vec::new(),
            Moment::Undone { input, .. } => vec![Event::new("GIVEN_BACK", input)],
        }
    }

    fn money(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Movement> {
        let Some(reference) = self.money else { return Vec::new() };
        let kind = match moment {
            Moment::Done { .. } => MovementKind::Capture,
            Moment::Failed { .. } => return Vec::new(),
            Moment::Undone { .. } => MovementKind::Refund,
        };
        let currency = "EUR".parse().expect("three letters");
        let money = Money { amount_minor: 100, currency };
        vec![Movement { kind, money, reference: reference.to_owned() }]
    }
}

impl TransactionUndo for Take {
    async fn undo(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        _: &String,
        output: &String,
    ) -> Result<Undone, StepError> {
        for article in output.split(',') {
            let back = "update shop.stock set pieces = pieces + 1 where article = $1";
            sqlx::query(back).bind(article).execute(&mut *connection).await?;
            let row = "insert into shop.given_back (key, article) values ($1, $2)";
            sqlx::query(row).bind(call.key()).bind(article).execute(&mut *connection).await?;
        }
        end(&self.undos).await.map(|()| Undone::by("stock"))
    }
}

struct Sale {
    shop: Shop,
    run: Arc<Run>,
}

impl Workflow for Sale {
    const NAME: &'static str = "sale";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new().transaction(&self.shop.take).step(&self.shop.a)
    }

    async fn run(&self, saga: &Saga, input: String) -> Result<String, Halt> {
        (self.run)(saga, &self.shop, input).await
    }
}

impl Shop {
    /// A world in which `run` is registered over these steps.
    pub fn builder(
        &self,
        run: impl for<'a> Fn(&'a Saga, &'a Shop, String) -> Ran<'a> + Send + Sync + 'static,
    ) -> WorldBuilder {
        let (shop, run) = (self.clone(), Arc::new(run) as Arc<Run>);
        World::builder().engine(move |engine| {
            engine.workflow(Sale { shop: shop.clone(), run: Arc::clone(&run) })
        })
    }
}

/// A world with so many pieces of `tea` and of `cup` in stock.
pub async fn open(builder: WorldBuilder, pieces: i32) -> World {
    let world = builder.build().await;
    let mut database = world.database().await;
    for statement in [
        "create schema shop",
        "create table shop.stock (article text primary key, pieces int not null)",
        "create table shop.taken (key text not null, article text not null)",
        "create table shop.given_back (key text not null, article text not null)",
    ] {
        sqlx::query(statement).execute(&mut database).await.expect("a shop can be made");
    }
    let stock = "insert into shop.stock values ('tea', $1), ('cup', $1)";
    sqlx::query(stock).bind(pieces).execute(&mut database).await.expect("it can be filled");
    world
}

/// What is in stock of tea, how often something was taken, and how often it was given back.
pub async fn stock(world: &World) -> (i32, i64, i64) {
    sqlx::query_as(
        "select (select pieces from shop.stock where article = 'tea'),
                (select count(*) from shop.taken), (select count(*) from shop.given_back)",
    )
    .fetch_one(&mut world.database().await)
    .await
    .expect("the stock can be counted")
}

/// A request to start a sale, with its business key for an input.
#[must_use]
pub fn start_request(business_key: &str) -> Start {
    Start {
        workflow: Sale::NAME,
        business_key: business_key.to_owned(),
        input: format!("{business_key:?}"),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}

/// Starts a sale.
pub async fn start(world: &World, business_key: &str) -> Uuid {
    match world.engine().start(start_request(business_key)).await {
        Ok(Started::New(instance_id)) => instance_id,
        other => panic!("it did not start: {other:?}"),
    }
}
