//! What must hold after every test, whatever it did: each query must return no row.

use sqlx::PgConnection;

/// (what is broken, the query that finds it)
const INVARIANTS: [(&str, &str); 10] = [
    (
        "a history has a gap",
        "select instance_id::text from amends.record group by instance_id
         having count(*) <> max(seq) + 1",
    ),
    (
        "an instance has no first record",
        "select instance_id::text from amends.instance i where not exists (
             select from amends.record r where r.instance_id = i.instance_id and r.seq = 0)",
    ),
    (
        "an instance has ended without a last record, or goes on after it",
        "select instance_id::text from amends.instance i
         where (status in ('completed', 'compensated', 'cancelled', 'terminated')) <> exists (
             select from amends.record r where r.instance_id = i.instance_id
             and r.kind = 'ended' and r.seq = i.head_seq)",
    ),
    (
        "an instance has ended with unread mail",
        "select instance_id::text from amends.instance
         where status in ('completed', 'compensated', 'cancelled', 'terminated')
           and mail_count <> mail_read",
    ),
    (
        "an instance has ended but is held or due",
        "select instance_id::text from amends.instance
         where status in ('completed', 'compensated', 'cancelled', 'terminated')
           and (worker_id is not null or run_at is not null or ended_at is null)",
    ),
    (
        "a step is recorded as done twice",
        "select instance_id::text from amends.record
         where kind in ('step_done', 'step_compensated') and payload -> 'recheck_at' is null
         group by instance_id, kind, step having count(*) > 1",
    ),
    (
        "a compensated or cancelled instance keeps money",
        "select i.instance_id::text from amends.instance i join amends.ledger l using (instance_id)
         where i.status in ('compensated', 'cancelled')
         group by i.instance_id
         having sum(case l.kind when 'capture' then amount_minor when 'refund' then -amount_minor
                    else 0 end) <> 0",
    ),
    (
        "the ledger does not say what the records say",
        "select r.instance_id::text from amends.record r
         where (select coalesce(array_agg(m ->> 'kind' || (m ->> 'amount_minor')
                                          || (m ->> 'currency')), '{}')
                from json_array_elements(r.payload -> 'money') m)
            <> (select coalesce(array_agg(kind || amount_minor || currency order by ordinal), '{}')
                from amends.ledger l where l.instance_id = r.instance_id and l.seq = r.seq)",
    ),
    (
        "an event waits for a record that does not publish it",
        "select o.instance_id::text from amends.outbox o
         left join amends.record r on r.instance_id = o.instance_id and r.seq = o.seq
         left join amends.intake_case c on c.case_id = o.instance_id and o.seq = -1
         where coalesce(r.events, c.events) is null
            or json_array_length(coalesce(r.events, c.events)) <= o.ordinal",
    ),
    (
        "a firing has started something else than the instance of its key",
        "select schedule || '/' || fire_key from amends.firing f
         where (state = 'started') <> exists (
             select from amends.instance i where i.instance_id = f.instance_id
             and i.business_key = f.schedule || '/' || f.fire_key)",
    ),
];

/// Panics with everything that is broken.
pub async fn check(connection: &mut PgConnection) {
    let broken = broken(connection).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Everything that is broken: what, and where.
pub async fn broken(connection: &mut PgConnection) -> Vec<String> {
    let mut broken = Vec::new();
    for (what, query) in INVARIANTS {
        let found: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&mut *connection).await.expect("invariants run");
        if !found.is_empty() {
            broken.push(format!("{what}: {}", found.join(", ")));
        }
    }
    broken
}
