//! Stock in the database: reserved, sold, let go and put back, and never promised twice.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{EngineBuilder, Status};
use amends_tests::kit::{Kit, KitBuilder, crash_everywhere};
use amends_tests::{orders, start_request};
use amends_workflows::fulfilment::packing::{Packed, PackedParcel};
use amends_workflows::fulfilment::{self, Packing, Setup, StockKeeping};
use amends_workflows::order::{Item, Order};
use amends_workflows::ports::Ports;
use futures::future::join_all;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::retail::without_single_pieces;

const SKU: &str = "TEE-M-BLK";
const DAY: Duration = Duration::from_secs(24 * 3600);
const KEEP_FOR_SECONDS: u32 = 24 * 3600;

fn setup(packing: Packing) -> Setup {
    Setup { packing, stock: StockKeeping::Database { keep_for_seconds: KEEP_FOR_SECONDS } }
}

/// Nobody is late here.
const BY_PERSON: Packing = Packing::Person { late_after_seconds: u32::MAX };

fn register(packing: Packing) -> impl Fn(EngineBuilder) -> EngineBuilder {
    move |engine| fulfilment::register(engine, Ports::instant(), setup(packing))
}

async fn fill(kit: &Kit, pieces: u32) {
    let fill = format!("insert into amends.stock (sku, on_hand) values ('{SKU}', {pieces})");
    kit.database().await.execute(AssertSqlSafe(fill)).await.unwrap();
}

/// How many pieces there are, and how many of them are reserved, which is told twice.
async fn stock(kit: &Kit) -> (i32, i32) {
    let stock = "select on_hand, reserved, (
            select coalesce(sum(quantity), 0)::int from amends.stock_reservation
        ) from amends.stock";
    let (on_hand, reserved, noted): (i32, i32, i32) =
        sqlx::query_as(stock).fetch_one(&mut kit.database().await).await.unwrap();
    assert_eq!(reserved, noted);
    (on_hand, reserved)
}

/// An order of so many tees.
fn order(order_id: &str, quantity: u32) -> Order {
    let mut order = orders::order(order_id);
    order.lines[0].quantity = quantity;
    order.total_minor = i64::from(quantity) * order.lines[0].unit_price_minor;
    order
}

async fn begin(kit: &Kit, order: &Order) -> Uuid {
    let id = kit.begin(start_request(order)).await;
    kit.settle().await;
    id
}

fn tees(quantity: u32) -> Vec<Item> {
    vec![Item { sku: SKU.to_owned(), quantity }]
}

fn packed(parcels: &[u32], missing: u32) -> Packed {
    let parcels = parcels.iter().map(|&count| PackedParcel { items: tees(count) }).collect();
    Packed { parcels, missing: if missing == 0 { Vec::new() } else { tees(missing) } }
}

#[tokio::test]
async fn of_two_hundred_orders_for_ten_pieces_ten_get_them() {
    let kit = Kit::new(register(Packing::Unattended)).await;
    fill(&kit, 10).await;
    let orders: Vec<_> = (0..200).map(|number| order(&format!("{number}"), 1)).collect();
    let ids = join_all(orders.iter().map(|it| kit.begin(start_request(it)))).await;
    // Some have met, and ask again a moment later.
    for _ in 0..10 {
        kit.pass(Duration::from_secs(60)).await;
    }
    let mut ended = [0, 0];
    for id in ids {
        match kit.status(id).await {
            Status::Completed => ended[0] += 1,
            Status::Compensated => ended[1] += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!(ended, [10, 190]);
    assert_eq!(stock(&kit).await, (0, 0));
    kit.finish().await;
}

#[tokio::test]
async fn lines_of_one_article_count_together() {
    let kit = Kit::new(register(Packing::Unattended)).await;
    fill(&kit, 3).await;
    let mut twice = order("1001", 2);
    twice.lines.push(twice.lines[0].clone());
    twice.total_minor *= 2;
    let id = begin(&kit, &twice).await;
    assert_eq!(kit.status(id).await, Status::Compensated);
    assert_eq!(stock(&kit).await, (3, 0));
    kit.finish().await;
}

#[tokio::test]
async fn what_is_cancelled_before_it_is_packed_is_let_go() {
    let kit = Kit::new(register(BY_PERSON)).await;
    fill(&kit, 3).await;
    let id = begin(&kit, &order("1001", 2)).await;
    assert_eq!(stock(&kit).await, (3, 2));
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!((kit.status(id).await, stock(&kit).await), (Status::Cancelled, (3, 0)));
    kit.finish().await;
}

#[tokio::test]
async fn what_is_not_on_its_shelf_is_written_off() {
    let kit = Kit::new(register(BY_PERSON)).await;
    fill(&kit, 3).await;
    let id = begin(&kit, &order("1001", 2)).await;
    kit.signal(id, &packed(&[1], 1)).await;
    kit.settle().await;
    assert_eq!((kit.status(id).await, stock(&kit).await), (Status::Completed, (1, 0)));
    kit.finish().await;
}

#[tokio::test]
async fn what_no_carrier_takes_is_put_back() {
    let ports = without_single_pieces();
    let register = move |engine| fulfilment::register(engine, ports.clone(), setup(BY_PERSON));
    let kit = Kit::new(register).await;
    fill(&kit, 9).await;
    let part = begin(&kit, &order("1001", 3)).await;
    kit.signal(part, &packed(&[2, 1], 0)).await;
    let whole = begin(&kit, &order("1002", 1)).await;
    kit.signal(whole, &packed(&[1], 0)).await;
    kit.settle().await;
    assert_eq!(kit.status(part).await, Status::Completed);
    assert_eq!(kit.status(whole).await, Status::Compensated);
    assert_eq!(stock(&kit).await, (7, 0));
    kit.finish().await;
}

#[tokio::test]
async fn what_is_kept_for_too_long_goes_to_who_needs_it() {
    let kit = Kit::new(register(BY_PERSON)).await;
    fill(&kit, 2).await;
    let slow = begin(&kit, &order("1001", 2)).await;
    let early = begin(&kit, &order("1002", 1)).await;
    assert_eq!(kit.status(early).await, Status::Compensated);
    kit.pass(DAY).await;
    let later = begin(&kit, &order("1003", 1)).await;
    assert_eq!((kit.status(later).await, stock(&kit).await), (Status::Waiting, (2, 1)));
    kit.signal(slow, &packed(&[2], 0)).await;
    kit.settle().await;
    assert_eq!(kit.status(slow).await, Status::Compensated);
    assert_eq!(kit.ledger(slow).await.captured_net("MYR".parse().unwrap()), Some(0));
    kit.signal(later, &packed(&[1], 0)).await;
    kit.settle().await;
    assert_eq!((kit.status(later).await, stock(&kit).await), (Status::Completed, (1, 0)));
    kit.finish().await;
}

#[tokio::test]
async fn what_is_kept_for_too_long_is_sold_if_nobody_else_needs_it() {
    let kit = Kit::new(register(BY_PERSON)).await;
    fill(&kit, 2).await;
    let slow = begin(&kit, &order("1001", 2)).await;
    kit.pass(2 * DAY).await;
    kit.signal(slow, &packed(&[2], 0)).await;
    kit.settle().await;
    assert_eq!((kit.status(slow).await, stock(&kit).await), (Status::Completed, (0, 0)));
    kit.finish().await;
}

#[tokio::test]
async fn nobody_counts_less_than_what_is_promised() {
    let kit = Kit::new(register(BY_PERSON)).await;
    fill(&kit, 3).await;
    begin(&kit, &order("1001", 2)).await;
    let mut database = kit.database().await;
    let refused = database.execute("update amends.stock set on_hand = 1").await.unwrap_err();
    assert!(refused.to_string().contains("stock_is_not_oversold"), "{refused}");
    kit.finish().await;
}

/// Packs short and in two parcels, of which one is refused.
async fn short_and_refused(builder: KitBuilder) -> (Status, Option<i64>, (i32, i32)) {
    let ports = without_single_pieces();
    let register = move |engine| fulfilment::register(engine, ports.clone(), setup(BY_PERSON));
    let kit = builder.build(register).await;
    fill(&kit, 5).await;
    let order = order("1001", 4);
    let id = begin(&kit, &order).await;
    kit.signal(id, &packed(&[2, 1], 1)).await;
    for _ in 0..3 {
        kit.pass(Duration::from_secs(3600)).await;
    }
    let net_minor = kit.ledger(id).await.captured_net(order.currency);
    let ended = (kit.status(id).await, net_minor, stock(&kit).await);
    kit.finish().await;
    ended
}

#[tokio::test]
async fn money_and_stock_are_the_same_wherever_the_process_dies() {
    let ended = short_and_refused(KitBuilder::default()).await;
    assert_eq!(ended, (Status::Completed, Some(2 * 2995), (2, 0)));
    let points = crash_everywhere(short_and_refused).await;
    assert!(points.len() > 20);
}
