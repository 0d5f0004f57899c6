//! Whatever the records, a history is what its records say, however they came to it.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use crate::chain;
use crate::command::{Command, Finding, Resolution};
use crate::compensation::{Plan, PlannedStep};
use crate::event::Event;
use crate::fake::{input, step_done};
use crate::history::History;
use crate::record::{
    AttemptOutcome, ChildEnded, ChildStarted, CommandRead, CompensationAttemptFailed,
    CompensationPlanned, Ended, Entry, MailRefused, Noted, Parent, Reason, ReasonKind, Record,
    SignalRead, Started, StepAttemptFailed, StepCompensated, StepInterrupted, StepNotFound,
    StepStarted, Stuck, TimerStarted, WaitEnded, WaitStarted,
};
use crate::status::Status;
use crate::step::{Failure, Undone};

/// A record before it has a place in a history.
#[derive(Debug, Clone)]
struct Written {
    step: Option<&'static str>,
    entry: Entry,
    events: usize,
    seconds: i64,
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn failure() -> Failure {
    let code = "FAILED";
    Failure::new(code, "no")
}

fn due() -> impl Strategy<Value = Option<DateTime<Utc>>> {
    prop::option::of((0..100_i64).prop_map(at))
}

/// Records of the steps.
fn step_entry() -> impl Strategy<Value = Entry> {
    let outcome = prop::sample::select(vec![
        AttemptOutcome::Retry,
        AttemptOutcome::Fail,
        AttemptOutcome::Refused,
        AttemptOutcome::Unknown,
    ]);
    let failed = (outcome.clone(), due()).prop_map(|(outcome, retry_at)| {
        let (failure, money) = (failure(), Vec::new());
        let failed = StepAttemptFailed {
            input: input(),
            outcome,
            failure,
            began_at: None,
            parked_until: None,
            retry_at,
            money,
        };
        Entry::StepAttemptFailed(failed)
    });
    let undo_failed = (outcome, due()).prop_map(|(outcome, retry_at)| {
        let failed = CompensationAttemptFailed { outcome, failure: failure(), retry_at };
        Entry::CompensationAttemptFailed(failed)
    });
    let undone = due().prop_map(|recheck_at| {
        let (undone, money) = (Undone::nothing(), Vec::new());
        Entry::StepCompensated(StepCompensated { undone, money, recheck_at })
    });
    let ended = |status| {
        let (instance_id, output, failure, parked) = (Uuid::nil(), None, None, false);
        Entry::ChildEnded(ChildEnded { instance_id, status, output, failure, parked })
    };
    let child = ChildStarted {
        instance_id: Uuid::nil(),
        workflow: "w".to_owned(),
        business_key: "k".to_owned(),
        input: input(),
        detached: false,
    };
    prop_oneof![
        failed,
        undo_failed,
        undone,
        Just(Entry::StepDone(step_done())),
        Just(Entry::StepStarted(StepStarted { input: input(), parked: false })),
        due().prop_map(|retry_at| Entry::StepInterrupted(StepInterrupted {
            input: input(),
            retry_at
        })),
        (0..100_i64).prop_map(|seconds| Entry::StepNotFound(StepNotFound {
            retry_at: at(seconds),
            parked: false
        })),
        any::<bool>().prop_map(move |detached| {
            Entry::ChildStarted(ChildStarted { detached, ..child.clone() })
        }),
        prop::sample::select(Status::ALL.to_vec()).prop_map(ended),
    ]
}

/// Records of everything else.
fn other_entry() -> impl Strategy<Value = Entry> {
    let finding = prop::option::of(prop_oneof![
        Just(Finding::Applied(serde_json::json!([1, null]))),
        Just(Finding::NotApplied),
        Just(Finding::Undone(None)),
        Just(Finding::Dropped),
        Just(Finding::Again),
    ]);
    let resolution = prop::option::of((prop::option::of(key()), finding)).prop_map(|found| {
        found.map(|(step, finding)| {
            let (step, evidence) = (step.map(str::to_owned), "seen".to_owned());
            Resolution { step, finding, evidence, money: Vec::new() }
        })
    });
    let new_keys = prop::sample::subsequence(vec!["one", "two", "one/undo", "two#2/undo"], 0..4);
    let new_keys = new_keys.prop_map(|keys| keys.into_iter().map(str::to_owned).collect());
    let command = prop::sample::select(Command::ALL.to_vec());
    let command = (command, resolution, prop::option::of(new_keys));
    let planned = prop::collection::vec((key(), any::<bool>()), 0..4).prop_map(|steps| {
        let steps = steps.into_iter();
        let step = |(step, known): (&str, bool)| PlannedStep { step: step.to_owned(), known };
        let plan = Plan { steps: steps.map(step).collect() };
        let reason = Reason { kind: ReasonKind::Failure, failure: failure() };
        let plan_hash = plan.hash();
        Entry::CompensationPlanned(CompensationPlanned { reason, plan, plan_hash })
    });
    let parent = Parent { instance_id: Uuid::nil(), key: "child:w".to_owned(), depth: 1 };
    let started = prop::option::of(Just(parent)).prop_map(|parent| {
        let (workflow, business_key) = ("w".to_owned(), "k".to_owned());
        let (version, depth, input) = (1, Some(2), input());
        Entry::Started(Started { workflow, version, business_key, parent, depth, input })
    });
    let ended =
        Ended { status: Status::Completed, unread: vec![3], output: Some(input()), failure: None };
    prop_oneof![
        command.prop_map(|(command, resolution, new_keys)| {
            let (reason, money, parked) = ("asked for".to_owned(), Vec::new(), true);
            Entry::Command(CommandRead { command, reason, resolution, new_keys, money, parked })
        }),
        planned,
        started,
        Just(Entry::WorkerLost),
        any::<bool>().prop_map(|parked| {
            let (signal, id, body) = ("s".to_owned(), None, input());
            Entry::Signal(SignalRead { signal, id, body, parked })
        }),
        (0..100_i64).prop_map(|seconds| Entry::TimerStarted(TimerStarted { until: at(seconds) })),
        Just(Entry::TimerFired),
        any::<bool>().prop_map(|parked| {
            Entry::MailRefused(MailRefused { mail_seq: 3, why: "unknown".to_owned(), parked })
        }),
        due().prop_map(|until| Entry::WaitStarted(WaitStarted { until })),
        prop::option::of(0..8_u32).prop_map(|signal| Entry::WaitEnded(WaitEnded { signal })),
        Just(Entry::Noted(Noted { value: input() })),
        Just(Entry::Stuck(Stuck { failure: failure() })),
        Just(Entry::Ended(ended)),
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["one", "two", "two#2", "timer:sleep"])
}

fn written() -> impl Strategy<Value = Vec<Written>> {
    let step = (key().prop_map(Some), step_entry());
    let other = (prop::option::of(key()), other_entry());
    let one = (prop_oneof![step, other], 0..3_usize, 0..9_i64)
        .prop_map(|((step, entry), events, seconds)| Written { step, entry, events, seconds });
    prop::collection::vec(one, 0..20)
}

/// Appends records to a history that is not loaded, but made.
fn make(written: &[Written]) -> (History, Vec<Record>) {
    let mut history = History::new(Uuid::nil());
    let mut now = 0;
    let mut append = |written: &Written| {
        now += written.seconds;
        let event = || Event::new("CHANGED", &1);
        let events: Vec<_> = (0..written.events).map(|_| event()).collect();
        let (step, entry) = (written.step, written.entry.clone());
        history.append(step, Some(1), entry, &events, None, at(now)).unwrap()
    };
    let records = written.iter().map(&mut append).collect();
    (history, records)
}

/// Everything of a history but what the replay has asked for.
fn meaning(mut history: History) -> String {
    history.rewind();
    format!("{history:?}")
}

proptest! {
    #[test]
    fn a_history_that_is_loaded_means_what_it_meant_when_it_was_made(written in written()) {
        let (made, records) = make(&written);
        let loaded = History::load(Uuid::nil(), &records).unwrap();
        prop_assert_eq!(loaded.head(), made.head());
        prop_assert_eq!(meaning(loaded), meaning(made));
    }

    #[test]
    fn every_record_is_read_back_and_its_chain_holds(written in written()) {
        let (made, records) = make(&written);
        for (record, written) in records.iter().zip(&written) {
            let entry = Entry::parse(&record.kind, &record.payload).unwrap();
            prop_assert_eq!(format!("{entry:?}"), format!("{:?}", written.entry));
            prop_assert_eq!(entry.payload().unwrap(), record.payload.as_str());
        }
        let (seq, head) = made.head();
        if !records.is_empty() {
            prop_assert_eq!(chain::verify(Uuid::nil(), &records, (seq, &head)), Ok(()));
        }
    }

    #[test]
    fn records_that_are_adopted_where_they_were_are_the_same(
        written in written(), cut in any::<prop::sample::Index>(),
    ) {
        let (made, records) = make(&written);
        let cut = cut.index(records.len() + 1);
        let mut adopting = History::load(Uuid::nil(), &records[..cut]).unwrap();
        let adopted: Vec<_> =
            records[cut..].iter().map(|record| adopting.adopt(record).unwrap()).collect();
        prop_assert_eq!(&adopted[..], &records[cut..]);
        prop_assert_eq!(meaning(adopting), meaning(made));
    }

    #[test]
    fn what_is_taken_off_again_leaves_nothing(written in written()) {
        let (mut made, records) = make(&written);
        let (before, mark) = (format!("{made:?}"), made.mark());
        let now = records.last().map_or(at(0), |record| record.at);
        let stuck = Entry::Stuck(Stuck { failure: failure() });
        made.append(None, None, stuck, &[], None, now).unwrap();
        made.revert(&mark);
        prop_assert_eq!(format!("{made:?}"), before);
    }
}
