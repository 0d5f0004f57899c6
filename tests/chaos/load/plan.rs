//! What each order is like: by which way it comes, how often, in which order, and who cancels it.
//!
//! Follows from the seed and the number of the order.

use crate::schedule::Schedule;
use crate::serve::SHOP;
use amends_tests::chance::Chance;

/// How long somebody holds what he holds.
const HELD_MILLISECONDS: u64 = 2_000;
/// When a provider's answer arrives, seen from the request: the way there takes this long
/// ([`AWAY`](crate::scene::AWAY)).
const ANSWERED_MILLISECONDS: std::ops::Range<u64> = 270..320;
/// When the parcels of a dispatch are being packed, seen from when somebody sees that it has some.
const PACKED_MILLISECONDS: std::ops::Range<u64> = 0..800;

/// The way an order comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// As a webhook.
    Shopify,
    /// By `POST /orders`.
    Orders,
    /// As a settlement.
    Settlement,
    /// As a dispatch, which is carried out by a family.
    Dispatch,
}

/// When the signal of a settlement is sent, seen from its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payment {
    Never,
    Before,
    After { milliseconds: u64, times: u32 },
}

/// What people ask of an order, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meddling {
    pub(crate) command: &'static str,
    pub(crate) moment: Moment,
    /// So many ask it at the same moment.
    pub(crate) people: u32,
}

/// When people ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long after what they asked before, or after the order's acceptance.
    After { milliseconds: u64 },
    /// So long after the request for the money has left.
    AfterChargeSent { milliseconds: u64 },
    /// So long after the order was seen to have parcels.
    AfterParcels { milliseconds: u64 },
}

/// A provider that takes its time, while somebody meddles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    /// With the charge.
    Charge,
    /// With the parcel of an order, the pivot.
    Parcel,
    /// With the deposit of a dispatch: it answers, and takes the money later.
    Deposit,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) number: u64,
    pub(crate) at_milliseconds: u64,
    pub(crate) channel: Channel,
    pub(crate) is_sent_twice: bool,
    /// The same id is used again, for something else.
    pub(crate) is_reused: bool,
    pub(crate) payment: Payment,
    /// How long after its acceptance the shop says that it is cancelled, if the shop does.
    pub(crate) cancelled_by_shop: Option<u64>,
    pub(crate) slow: Option<Slow>,
    pub(crate) meddling: Vec<Meddling>,
    /// The receiver of events takes none about it.
    pub(crate) is_unwanted: bool,
}

/// Every order of a run, as they come.
pub(crate) fn plans(schedule: &Schedule) -> Vec<Plan> {
    let span = schedule.span_milliseconds;
    (0..schedule.orders)
        .map(|number| {
            let chance = Chance::of(schedule.seed, "order", number);
            let turn = span * number / schedule.orders;
            // One in five comes out of its turn.
            let late = if chance.percent(20) { chance.within(0..3_000) } else { 0 };
            let channel = match chance.within(0..100) {
                0..28 => Channel::Shopify,
                28..46 => Channel::Orders,
                46..86 => Channel::Settlement,
                _ => Channel::Dispatch,
            };
            let is_sent_twice = chance.percent(20);
            let is_reused = chance.percent(3);
            let payment = payment(&chance, channel);
            let is_cancelled = channel == Channel::Shopify && chance.percent(20);
            // Some while it is carried out, some when most are done.
            let when = if chance.percent(50) { 0..6_000 } else { 20_000..45_000 };
            let cancelled_by_shop = is_cancelled.then(|| chance.within(when));
            let slow = slow(&chance, channel);
            let meddling = meddling(&chance, channel, slow);
            Plan {
                number,
                at_milliseconds: turn + late,
                channel,
                is_sent_twice,
                is_reused,
                payment,
                cancelled_by_shop,
                slow,
                meddling,
                is_unwanted: chance.percent(1),
            }
        })
        .collect()
}

fn payment(chance: &Chance, channel: Channel) -> Payment {
    match (channel, chance.within(0..100)) {
        (Channel::Shopify | Channel::Orders | Channel::Dispatch, _)
        | (Channel::Settlement, 0..10) => Payment::Never,
        (Channel::Settlement, 10..30) => Payment::Before,
        (Channel::Settlement, _) => Payment::After {
            milliseconds: chance.within(0..4_000),
            times: if chance.percent(20) { 2 } else { 1 },
        },
    }
}

fn slow(chance: &Chance, channel: Channel) -> Option<Slow> {
    match (channel, chance.within(0..100)) {
        (Channel::Settlement, 0..8) => Some(Slow::Charge),
        (Channel::Orders, 0..15) => Some(Slow::Parcel),
        (Channel::Dispatch, 0..35) => Some(Slow::Deposit),
        _ => None,
    }
}

fn meddling(chance: &Chance, channel: Channel, slow: Option<Slow>) -> Vec<Meddling> {
    let people = if chance.percent(40) { 3 } else { 1 };
    let at = |command, moment| Meddling { command, moment, people: 1 };
    let ask = |command, milliseconds| at(command, Moment::After { milliseconds });
    let cancel = |after| Meddling { people, ..ask("cancel", after) };
    let (early, late) = (chance.within(0..600), chance.within(4_000..12_000));
    let whenever = if chance.percent(60) { early } else { late };
    match (channel, slow, chance.within(0..100)) {
        // Whoever sends a webhook is not told which instance it became.
        (Channel::Shopify, ..) => Vec::new(),
        (_, Some(Slow::Charge), _) => vec![cancel(chance.within(300..1_800))],
        (_, Some(Slow::Parcel), _) => vec![cancel(chance.within(900..2_700))],
        (Channel::Dispatch, None, 0..50) => {
            let milliseconds = chance.within(PACKED_MILLISECONDS);
            vec![Meddling { people, ..at("cancel", Moment::AfterParcels { milliseconds }) }]
        }
        (Channel::Dispatch, _, 0..65) => vec![cancel(chance.within(300..4_000))],
        // The pivot is announced when the answer about the money arrives, and tried a moment later. A
        // hold between the two keeps it from being tried, so the cancel has to win.
        (Channel::Orders, None, 50..80) => {
            let milliseconds = chance.within(ANSWERED_MILLISECONDS);
            let moment = Moment::AfterChargeSent { milliseconds };
            let lifted = ask("release", chance.within(300..1_000));
            vec![at("hold", moment), cancel(chance.within(1_000..7_000)), lifted]
        }
        (_, None, 0..5) => vec![cancel(whenever)],
        (_, None, 5..7) => vec![ask("retry", whenever)],
        (Channel::Orders | Channel::Settlement, None, 7..9) => {
            vec![ask("hold", early), ask("release", HELD_MILLISECONDS)]
        }
        _ => Vec::new(),
    }
}

impl Plan {
    /// What Shopify calls the order.
    pub(crate) fn shopify_id(&self) -> u64 {
        5_000_000 + self.number
    }

    pub(crate) fn business_key(&self) -> String {
        match self.channel {
            Channel::Shopify => format!("{}/{}", SHOP.0, self.shopify_id()),
            Channel::Orders => format!("{}/{}", SHOP.0, self.number),
            Channel::Settlement => format!("settlement-{}", self.number),
            Channel::Dispatch => format!("dispatch-{}", self.number),
        }
    }

    /// What the order costs.
    pub(crate) fn total_minor(&self) -> i64 {
        match self.channel {
            Channel::Shopify | Channel::Orders => 5_990,
            Channel::Settlement | Channel::Dispatch => 1_000 + (self.number % 9_000) as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_sends_the_same_orders() {
        let of = |seed| plans(&Schedule::of(seed, 500));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn no_two_orders_are_about_the_same_thing() {
        let plans = plans(&Schedule::of(7, 500));
        let keys: std::collections::HashSet<_> = plans.iter().map(Plan::business_key).collect();
        assert_eq!(keys.len(), 500);
    }
}
