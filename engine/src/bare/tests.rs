//! What is sent again of a recorded life.

use super::*;
use crate::priority::Priority;
use crate::record::Record;
use crate::status::Status;
use chrono::DateTime;

fn record(seq: u32) -> Arc<NewRecord> {
    let record = Record {
        seq,
        kind: "started".into(),
        step: None,
        attempt: None,
        payload: "{}".to_owned(),
        events: None,
        actor: None,
        at: DateTime::UNIX_EPOCH,
        hash: [9; 32],
    };
    Arc::new(NewRecord { record, events: 1, money: Vec::new() })
}

fn birth(instance_id: Uuid) -> Write {
    let about = About { workflow: "fulfilment".to_owned(), business_key: "a/1".to_owned() };
    Write {
        instance_id,
        claim_id: None,
        about: Arc::new(about),
        delivery: Some(NewDelivery {
            source: "shopify/a".to_owned(),
            external_id: "1".to_owned(),
            digest: [1; 32],
            body: b"body".to_vec(),
            verdict: None,
            received_at: DateTime::UNIX_EPOCH,
        }),
        start: Some(NewInstance {
            version: 1,
            claim_id: Some(new_id()),
            priority: Priority::Normal,
            bearer: None,
            attributes: Vec::new(),
            attributes_json: "{}".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
        }),
        change: None,
        records: vec![record(0)],
    }
}

fn change(instance_id: Uuid, revision: i32, status: Status) -> Write {
    let seq = revision.cast_unsigned();
    let change = Change {
        revision,
        status,
        released: status.is_terminal(),
        run_at: None,
        parked_on: None,
        failure: None,
        past_pivot: true,
        mail_read: 0,
        leaves_mail: false,
        head: (seq, [9; 32]),
        at: DateTime::UNIX_EPOCH,
    };
    Write {
        claim_id: Some(new_id()),
        delivery: None,
        start: None,
        change: Some(change),
        records: vec![record(seq)],
        ..birth(instance_id)
    }
}

/// An instance that has ended, one that has not, and one that was there before.
fn recorded() -> Recorder {
    let recorder = Recorder::of_writes();
    let [ended, alive, older] = [new_id(), new_id(), new_id()];
    recorder.note([birth(ended), birth(alive)].iter());
    recorder.note([change(ended, 1, Status::Running)].iter());
    recorder
        .note([change(ended, 2, Status::Completed), change(older, 9, Status::Completed)].iter());
    recorder
}

#[test]
fn only_whole_lives_are_sent_again() {
    let recorder = recorded();
    let lives = recorder.finished();
    assert_eq!(lives.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    assert_eq!((recorder.take_sizes(), recorder.take_sizes()), (vec![2, 1, 2], Vec::new()));
}

#[test]
fn who_keeps_sizes_keeps_no_writes() {
    let recorder = Recorder::of_sizes();
    recorder.note([birth(new_id())].iter());
    assert!(recorder.finished().is_empty());
    assert_eq!(recorder.take_sizes(), [1]);
}

#[test]
fn every_write_is_sent_again_with_what_it_changes_under_a_new_id() {
    let lives = recorded().finished();
    let (name, ready) = ("bare".to_owned(), VecDeque::new());
    let mut line = Line { name, born: 0, born_max: 1, room: 1, ready };
    let mut sent = Vec::new();
    while let Some((writer, write)) = line.batch(&lives).pop() {
        sent.push(write);
        if writer.has_more(&lives) {
            line.ready.push_back(writer);
        }
    }
    let id = sent[0].instance_id;
    assert_ne!(id, lives[0][0].instance_id);
    assert!(sent.iter().all(|write| write.instance_id == id));
    assert_eq!(sent[0].delivery.as_ref().unwrap().external_id, "bare-0");
    let claim_id = sent[0].start.as_ref().unwrap().claim_id;
    assert!(claim_id.is_some() && sent[1..].iter().all(|write| write.claim_id == claim_id));
    let changes: Vec<_> = sent.iter().map(|it| it.change.as_ref().map(|it| it.status)).collect();
    assert_eq!(changes, [None, Some(Status::Running), Some(Status::Completed)]);
    // The chain holds under the new id, up to what the row knows.
    let records: Vec<_> =
        sent.iter().flat_map(|write| &write.records).map(|new| new.record.clone()).collect();
    let (seq, head) = sent[2].change.as_ref().unwrap().head;
    assert!(chain::verify(id, &records, (seq, &head)).is_ok());
}
