-- One commit of a worker: everything its instances and its intake want to be durable.
--
-- The first row taken is the fence: a worker whose row is gone writes nothing. A write goes in
-- whole or not at all: records, events and money follow the delivery, the new instance or the
-- status change they belong to (gate 0 nothing, 1 new instance, 2 status change).
-- Returns what was taken in, and the instances whose write went in: a child that is borne again
-- may be in one batch with a write of its own.
with fence as materialized (
    select worker_id from amends.worker where worker_id = $1 for key share
), delivery_in as (
    select *
    from unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::text[], $8::text[],
                $9::timestamptz[])
        as d(delivery_id, source, external_id, digest, body, workflow, business_key, received_at)
), new_delivery as (
    insert into amends.delivery
        (delivery_id, source, external_id, digest, body, workflow, business_key, received_at)
    select d.delivery_id, d.source, d.external_id, d.digest, d.body, d.workflow, d.business_key,
           d.received_at
    from delivery_in d cross join fence
    order by d.source, d.external_id
    on conflict (source, external_id) do nothing
    returning delivery_id, workflow
), start_in as (
    select *
    from unnest($10::uuid[], $11::text[], $12::int[], $13::text[], $14::uuid[], $15::bytea[],
                $16::timestamptz[], $17::boolean[], $59::text[], $60::smallint[],
                $62::uuid[])
        as s(instance_id, workflow, version, business_key, claim_id, head_hash, created_at, delivered,
             attributes, priority, parent_id)
), new_instance as (
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, worker_id, claim_id, run_at,
         head_seq, head_hash, created_at, updated_at, attributes, priority, parent_id)
    select s.instance_id, s.workflow, s.version, s.business_key,
           case when s.claim_id is null then 'pending' else 'running' end,
           case when s.claim_id is not null then fence.worker_id end,
           s.claim_id,
           case when s.claim_id is null then s.created_at end,
           0, s.head_hash, s.created_at, s.created_at, s.attributes::json,
           s.priority, s.parent_id
    from start_in s cross join fence
    -- A start's delivery and its instance share their id.
    where not s.delivered or s.instance_id in (select delivery_id from new_delivery)
    order by s.workflow, s.business_key
    on conflict (workflow, business_key) do nothing
    returning instance_id
), new_attribute as (
    insert into amends.attribute (instance_id, name, value)
    select a.instance_id, a.name, a.value
    from unnest($18::uuid[], $19::text[], $20::text[]) as a(instance_id, name, value)
    where a.instance_id in (select instance_id from new_instance)
), change_in as (
    select *
    from unnest($21::uuid[], $22::text[], $23::boolean[], $24::timestamptz[],
                $26::text[], $27::text[], $28::boolean[], $29::int[], $30::int[], $31::bytea[],
                $32::timestamptz[], $33::timestamptz[], $61::text[])
        as c(instance_id, status, released, run_at, failure_code, failure_message, past_pivot,
             mail_read, head_seq, head_hash, updated_at, ended_at, parked_on)
), changed as (
    update amends.instance i
    set status = c.status,
        worker_id = case when c.released then null else i.worker_id end,
        -- A time to wait crosses the wire, not an instant: clocks differ.
        run_at = case when $25::timestamptz is null
                      then clock_timestamp() + (c.run_at - c.updated_at) else c.run_at end,
        parked_on = c.parked_on,
        failure_code = c.failure_code,
        failure_message = c.failure_message,
        past_pivot = c.past_pivot,
        mail_read = c.mail_read,
        losses = 0,
        parent_told = false,
        head_seq = c.head_seq,
        head_hash = c.head_hash,
        updated_at = c.updated_at,
        ended_at = c.ended_at
    from change_in c cross join fence
    where i.instance_id = c.instance_id
      -- Not `=`: the rows are to be found by their key, never by walking all that the worker holds.
      and i.worker_id is not distinct from fence.worker_id
      -- Mail that the worker has not read yet comes first.
      and i.mail_count = c.mail_read
      -- And so do signals that were sent before the instance was there.
      and (select true from amends.early_signal e
           where e.workflow = i.workflow and e.business_key = i.business_key
           limit 1) is null
    returning i.instance_id
), record_in as (
    select *
    from unnest($34::uuid[], $35::int[], $36::text[], $37::text[], $38::int[], $39::text[],
                $40::text[], $41::text[], $42::timestamptz[], $43::bytea[], $44::smallint[])
        as r(instance_id, seq, kind, step, attempt, payload, events, actor, at, hash, gate)
), new_record as (
    insert into amends.record
        (instance_id, seq, kind, step, attempt, payload, events, actor, at, hash)
    select r.instance_id, r.seq, r.kind, r.step, r.attempt, r.payload::json, r.events::json, r.actor,
           r.at, r.hash
    from record_in r cross join fence
    where r.gate = 0
       or (r.gate = 1 and r.instance_id in (select instance_id from new_instance))
       or (r.gate = 2 and r.instance_id in (select instance_id from changed))
    on conflict (instance_id, seq) do nothing
    returning instance_id, seq
), new_event as (
    insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
    select e.subscription, e.shard, e.workflow, e.key, e.instance_id, e.seq, e.ordinal
    from unnest($45::text[], $46::smallint[], $47::text[], $48::text[], $49::uuid[], $50::int[],
                $51::smallint[])
            with ordinality
            as e(subscription, shard, workflow, key, instance_id, seq, ordinal, position)
    where (e.instance_id, e.seq) in (select instance_id, seq from new_record)
    order by e.position
), new_movement as (
    insert into amends.ledger (instance_id, seq, ordinal, kind, amount_minor, currency, reference)
    select m.instance_id, m.seq, m.ordinal, m.kind, m.amount_minor, m.currency, m.reference
    from unnest($52::uuid[], $53::int[], $54::smallint[], $55::text[], $56::bigint[], $57::text[],
                $58::text[])
        as m(instance_id, seq, ordinal, kind, amount_minor, currency, reference)
    where (m.instance_id, m.seq) in (select instance_id, seq from new_record)
)
select exists (select from fence) as "fenced_in!",
       array(
           select delivery_id from new_delivery where workflow is null
           union all select instance_id from new_instance
       ) as "taken_in!: Vec<Uuid>",
       array(
           select instance_id from new_record where seq > 0
           union select instance_id from changed
       ) as "written!: Vec<Uuid>"
