//! Orders that a person packs: late, short, in several parcels, or for somebody who comes by.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Signalled, Status, StepError};
use amends_tests::kit::Kit;
use amends_tests::orders;
use amends_tests::{World, start_request};
use amends_workflows::failure::{PROVIDER_DOWN, SHIPMENT_ERROR};
use amends_workflows::fulfilment::packing::{Packed, PackedParcel, PickedUp};
use amends_workflows::fulfilment::parcel::Parcel;
use amends_workflows::fulfilment::ship::Ship;
use amends_workflows::fulfilment::{
    self, Fulfilled, Fulfilment, FulfilmentV1, Packing, Setup, StockKeeping,
};
use amends_workflows::order::{Item, Order, Payment, Recipient};
use amends_workflows::ports::carrier::{Carrier, Shipment};
use amends_workflows::ports::{self, Ports};
use chrono::{DateTime, Utc};
use uuid::Uuid;

const KEY: &str = "acme.myshopify.com/1001";
const HOUR: Duration = Duration::from_secs(3600);
const BY_PERSON: Setup = Setup {
    packing: Packing::Person { late_after_seconds: 4 * 3600 },
    stock: StockKeeping::Provider,
};

async fn world() -> World {
    World::builder().setup(BY_PERSON).build().await
}

fn tees(quantity: u32) -> Vec<Item> {
    vec![Item { sku: "TEE-M-BLK".to_owned(), quantity }]
}

/// So many tees in each parcel, and so many that are not there.
fn packed(parcels: &[u32], missing: u32) -> Packed {
    let parcels = parcels.iter().map(|&count| PackedParcel { items: tees(count) }).collect();
    Packed { parcels, missing: if missing == 0 { Vec::new() } else { tees(missing) } }
}

/// Starts an order, and has it packed like this.
async fn pack(world: &World, order: &Order, packed: &Packed) -> Uuid {
    let id = world.begin(start_request(order)).await;
    world.settle().await;
    assert_eq!(world.status(id).await, Status::Waiting);
    assert_eq!(world.signal(id, packed).await, Signalled::Accepted(id));
    world.settle().await;
    id
}

/// What has moved at the payment provider and the shop: operation and amount.
async fn moved(world: &World) -> Vec<(String, i64)> {
    let applied = world.providers().applied(KEY).await.into_iter();
    let money = applied.filter(|it| ["payment", "shop"].contains(&&*it.provider));
    money.filter_map(|it| Some((it.operation, it.amount_minor?))).collect()
}

fn of_money(movements: &[(&str, i64)]) -> Vec<(String, i64)> {
    movements.iter().map(|&(operation, minor)| (operation.to_owned(), minor)).collect()
}

#[tokio::test]
async fn an_order_goes_through_the_stages_of_a_retail_flow() {
    let world = world().await;
    let id = pack(&world, &orders::order("1001"), &packed(&[2], 0)).await;
    assert_eq!(world.status(id).await, Status::Completed);
    assert_eq!(
        world.recorder().kinds(KEY),
        [
            "ORDER_CREATED",
            "INVOICE_CREATED",
            "PAYMENT_CONFIRMED",
            "ORDER_PROCESSED",
            "SHIPMENT_PREPARED",
            "SHIPMENT_PROCESSED",
            "SHIPPED",
            "ORDER_FULFILLED",
        ]
    );
    world.finish().await;
}

#[tokio::test]
async fn packing_that_is_late_is_told_again_and_again_less_and_less_often() {
    let world = world().await;
    let id = world.start_order("1001").await;
    world.settle().await;
    let late = || {
        let kinds = world.recorder().kinds(KEY);
        kinds.iter().filter(|kind| *kind == "PACKING_LATE").count()
    };
    let mut told = Vec::new();
    for _ in 0..30 {
        world.pass(HOUR).await;
        told.push(late());
    }
    let first_told = |count| told.iter().position(|it| *it == count).map(|index| index + 1);
    assert_eq!([1, 2, 3].map(first_told), [Some(4), Some(12), Some(28)], "{told:?}");
    world.signal(id, &packed(&[2], 0)).await;
    world.settle().await;
    assert_eq!(world.status(id).await, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_have_been_packed_is_refused_and_the_order_goes_on_waiting() {
    let world = world().await;
    let id = pack(&world, &orders::order("1001"), &packed(&[3], 0)).await;
    assert_eq!(world.status(id).await, Status::Waiting);
    let refused = world.recorder().arrived().into_iter().find(|it| it.kind == "PACKING_REFUSED");
    let reason = "of TEE-M-BLK, 2 are ordered, and 3 are packed or missing";
    assert!(refused.expect("it is told").data.contains(reason));
    world.signal(id, &packed(&[1], 1)).await;
    world.settle().await;
    assert_eq!(world.status(id).await, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn what_is_missing_is_not_paid_for_whoever_has_the_money() {
    let reference = || "pay_1".to_owned();
    let due_at = Some(DateTime::<Utc>::UNIX_EPOCH);
    let table = [
        (Payment::ToCharge, vec![("charge", 5990), ("refund", 2995)], 2995),
        (
            Payment::Authorised { reference: reference() },
            vec![("capture", 5990), ("refund_capture", 2995)],
            2995,
        ),
        (Payment::Paid { reference: reference() }, vec![("refund_payment", 2995)], 2995),
        (Payment::OnTerms { due_at }, vec![("charge", 2995)], 2995),
        (Payment::OnDelivery, vec![], 0),
    ];
    for (payment, movements, reduced_by_minor) in table {
        let world = world().await;
        let order = Order { payment, ..orders::order("1001") };
        let id = pack(&world, &order, &packed(&[1], 1)).await;
        assert_eq!(world.status(id).await, Status::Completed, "{:?}", order.payment);
        let output: Fulfilled = world.output::<Fulfilment>(id).await;
        assert_eq!((output.missing, output.reduced_by_minor), (tees(1), reduced_by_minor));
        assert_eq!(moved(&world).await, of_money(&movements), "{:?}", order.payment);
        world.finish().await;
    }
}

#[tokio::test]
async fn several_parcels_are_sent_each_on_its_own() {
    let world = world().await;
    let id = pack(&world, &orders::order("1001"), &packed(&[1, 1], 0)).await;
    assert_eq!(world.status(id).await, Status::Completed);
    let output: Fulfilled = world.output::<Fulfilment>(id).await;
    assert!(output.tracking_number.is_some() && output.more_tracking_numbers.len() == 1);
    let counts = world.providers().counts(KEY).await;
    assert_eq!((counts["ship"], counts["send"]), (2, 2), "{counts:?}");
    let parcels = world.instances::<Parcel>().await;
    let keys: Vec<_> = parcels.into_iter().map(|parcel| parcel.business_key).collect();
    assert!(keys.contains(&format!("{KEY}/parcel-1")), "{keys:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_parcel_that_nobody_takes_is_given_back_for_and_the_others_arrive() {
    let world = world().await;
    let parcel = format!("{KEY}/parcel-2");
    let refused = StepError::fail(SHIPMENT_ERROR, "too heavy");
    world.attempt::<Ship>(1).about(&parcel).fails(refused);
    let id = pack(&world, &orders::order("1001"), &packed(&[1, 1], 0)).await;
    assert_eq!(world.status(id).await, Status::Completed);
    let output: Fulfilled = world.output::<Fulfilment>(id).await;
    assert_eq!((output.missing, output.reduced_by_minor), (tees(1), 2995));
    assert_eq!(moved(&world).await, of_money(&[("charge", 5990), ("refund", 2995)]));
    assert_eq!(world.command(id, Command::Cancel).await, Answer::AlreadyEnded);
    world.finish().await;
}

#[tokio::test]
async fn if_nobody_takes_any_parcel_the_order_is_undone() {
    let world = world().await;
    for parcel in [1, 2] {
        let refused = StepError::fail(SHIPMENT_ERROR, "too heavy");
        world.attempt::<Ship>(1).about(&format!("{KEY}/parcel-{parcel}")).fails(refused);
    }
    let id = pack(&world, &orders::order("1001"), &packed(&[1, 1], 0)).await;
    assert_eq!(world.status(id).await, Status::Compensated);
    assert_eq!(moved(&world).await, of_money(&[("charge", 5990), ("refund", 5990)]));
    world.finish().await;
}

#[tokio::test]
async fn an_order_can_be_cancelled_for_as_long_as_nothing_has_left_the_house() {
    let world = world().await;
    let id = world.start_order("1001").await;
    world.pass(5 * HOUR).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.status(id).await, Status::Cancelled);
    assert_eq!(moved(&world).await, of_money(&[("charge", 5990), ("refund", 5990)]));
    let signalled = world.signal(id, &packed(&[2], 0)).await;
    assert_eq!(signalled, Signalled::AlreadyEnded(id));
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_is_too_late_once_one_parcel_has_left_the_house() {
    let world = world().await;
    let parcel = format!("{KEY}/parcel-2");
    world.attempt::<Ship>(1).about(&parcel).fails(StepError::retry(PROVIDER_DOWN, "on strike"));
    let id = pack(&world, &orders::order("1001"), &packed(&[1, 1], 0)).await;
    assert_eq!(world.status(id).await, Status::Waiting);
    assert_eq!(world.command(id, Command::Cancel).await, Answer::ChildPastPivot);
    world.pass(HOUR).await;
    assert_eq!(world.status(id).await, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn who_picks_an_order_up_is_told_that_it_is_ready_and_is_waited_for() {
    let world = world().await;
    let order = Order { recipient: None, ..orders::order("1001") };
    let id = pack(&world, &order, &packed(&[2], 0)).await;
    world.pass(5 * HOUR).await;
    assert_eq!(world.status(id).await, Status::Waiting);
    world.signal(id, &PickedUp {}).await;
    world.settle().await;
    assert_eq!(world.status(id).await, Status::Completed);
    let kinds = world.recorder().kinds(KEY);
    let last = kinds.iter().skip_while(|kind| *kind != "READY_FOR_PICKUP").map(String::as_str);
    let expected = ["READY_FOR_PICKUP", "PICKUP_LATE", "PICKED_UP", "ORDER_FULFILLED"];
    assert_eq!(last.collect::<Vec<_>>(), expected);
    let counts = world.providers().counts(KEY).await;
    assert_eq!((counts.get("ship"), counts["send"]), (None, 1));
    world.finish().await;
}

/// Takes parcels of two pieces and more.
struct Wholesaler;

impl Carrier for Wholesaler {
    fn ship<'a>(
        &'a self,
        key: &'a str,
        order: &'a str,
        items: &'a [Item],
        recipient: &'a Recipient,
    ) -> ports::Answer<'a, Shipment> {
        if items.iter().map(|item| item.quantity).sum::<u32>() < 2 {
            return Box::pin(async { Err(StepError::refused(SHIPMENT_ERROR, "too light")) });
        }
        let carrier = Ports::instant().carrier;
        Box::pin(async move { carrier.ship(key, order, items, recipient).await })
    }
}

/// Providers that grant everything, but for a carrier that takes no parcel of one piece.
pub(crate) fn without_single_pieces() -> Ports {
    Ports { carrier: Arc::new(Wholesaler), ..Ports::instant() }
}

#[tokio::test]
async fn who_packs_is_decided_for_an_order_once_and_for_all() {
    let setting = Arc::new(Mutex::new(BY_PERSON));
    let read = Arc::clone(&setting);
    let register =
        move |engine| fulfilment::register(engine, Ports::instant(), *read.lock().unwrap());
    let mut kit = Kit::new(register).await;
    let begun = kit.begin(start_request(&orders::order("1001"))).await;
    kit.settle().await;
    *setting.lock().unwrap() = Setup::default();
    kit.restart().await;
    let later = kit.begin(start_request(&orders::order("1002"))).await;
    kit.settle().await;
    assert_eq!(kit.status(later).await, Status::Completed);
    assert_eq!(kit.status(begun).await, Status::Waiting);
    kit.signal(begun, &packed(&[2], 0)).await;
    kit.settle().await;
    assert_eq!(kit.status(begun).await, Status::Completed);
    kit.finish().await;
}

#[tokio::test]
async fn an_order_of_the_first_version_ends_on_it() {
    let is_new = Arc::new(Mutex::new(false));
    let read = Arc::clone(&is_new);
    let register = move |engine| {
        let ports = Ports::instant();
        if *read.lock().unwrap() {
            return fulfilment::register(engine, ports, BY_PERSON);
        }
        fulfilment::register_first(engine, ports)
    };
    let mut kit = Kit::new(register.clone()).await;
    kit.attempt::<Ship>(1).fails(StepError::retry(PROVIDER_DOWN, "on strike"));
    let id = kit.begin(start_request(&orders::order("1001"))).await;
    kit.settle().await;
    *is_new.lock().unwrap() = true;
    let builder = register(amends::Engine::builder(kit.options()));
    let report = builder.check(|_| ()).await.unwrap();
    assert_eq!((report.fits, report.instances()), (1, 1), "{report:?}");
    kit.restart().await;
    kit.pass(HOUR).await;
    let instance = kit.instance(id).await;
    assert_eq!((instance.version, instance.status), (1, Status::Completed));
    let output: Fulfilled = kit.output::<FulfilmentV1>(id).await;
    assert!(output.tracking_number.is_some());
    kit.finish().await;
}
