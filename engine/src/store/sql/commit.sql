-- One commit of a worker: everything its instances and its intake want to be durable.
--
-- The first row taken is the fence: a worker whose row is gone writes nothing. A write goes in
-- whole or not at all: records, events and money follow the delivery, the new instance, the status
-- change or the held instance they belong to (gate 0 held instance, 1 new instance, 2 status
-- change). Of an instance that is held, a write goes in only under the claim it is held by, and only
-- once: none of its records is there yet, and the row is at the revision before, if it changes. So a
-- statement that is sent again, or that arrives late, changes nothing.
-- What one part asks of another (`(.. in (select ..)) is true`) is a look-up in a hash, whatever the
-- planner believes of sizes: a join it may make by comparing each row with each.
-- Returns what was taken in, and the instances whose write went in: a child that is borne again
-- may be in one batch with a write of its own.
-- What stands between `if` and `else` is left out of a batch that has nothing for it: `parts.rs`.
with fence as materialized (
    select worker_id from amends.worker where worker_id = $1 for key share
), held_in as (
    -- What writes records and no change.
    select *
    from unnest($24::uuid[], $25::uuid[], $26::int[])
        as h(instance_id, claim_id, first_seq)
), held as materialized (
    -- if held
    select h.instance_id
    from held_in h
    cross join fence
    join amends.instance i on i.instance_id = h.instance_id
    -- Not `=`: the rows are to be found by their key, never by walking all that the worker holds.
    where i.worker_id is not distinct from fence.worker_id
      and i.claim_id = h.claim_id
      and (select true from amends.record r
           where r.instance_id = h.instance_id and r.seq >= h.first_seq
           limit 1) is null
    -- else select null::uuid as instance_id where false
), change_in as (
    select *
    from unnest($27::uuid[], $28::int[], $29::text[], $30::boolean[],
                $31::timestamptz[], $32::text[], $33::text[],
                $34::text[], $35::boolean[], $36::int[],
                $37::int[], $38::bytea[], $39::timestamptz[],
                $40::timestamptz[], $69::uuid[], $70::int[], $71::boolean[])
        as c(instance_id, revision, status, released, run_at, parked_on, failure_code,
             failure_message, past_pivot, mail_read, head_seq, head_hash, updated_at, ended_at,
             claim_id, first_seq, leaves_mail)
), changed as (
    -- if change
    update amends.instance i
    set status = c.status,
        worker_id = case when c.released then null else i.worker_id end,
        revision = c.revision,
        -- A time to wait crosses the wire, not an instant: clocks differ.
        run_at = case when $41::timestamptz is null
                      then clock_timestamp() + (c.run_at - c.updated_at) else c.run_at end,
        parked_on = c.parked_on,
        failure_code = c.failure_code,
        failure_message = c.failure_message,
        past_pivot = c.past_pivot,
        mail_read = c.mail_read,
        -- A write in between is no progress: it may be what announces the next attempt.
        losses = case when c.released then 0 else i.losses end,
        parent_told = false,
        head_seq = c.head_seq,
        head_hash = c.head_hash,
        updated_at = c.updated_at,
        ended_at = c.ended_at
    from change_in c
    cross join fence
    where i.instance_id = c.instance_id
      -- Asked again of the row as it is when it is locked.
      and i.worker_id is not distinct from fence.worker_id
      and i.claim_id = c.claim_id
      and i.revision = c.revision - 1
      and (select true from amends.record r
           where r.instance_id = c.instance_id and r.seq >= c.first_seq
           limit 1) is null
      -- Mail that the worker has not read yet comes first, unless it cannot read it.
      and (i.mail_count = c.mail_read or c.leaves_mail)
      -- And so do signals that were sent before the instance was there.
      and (select true from amends.early_signal e
           where e.workflow = i.workflow and e.business_key = i.business_key
             and not c.leaves_mail
           limit 1) is null
    returning i.instance_id, i.claim_id, i.mail_read, c.leaves_mail
    -- else select null::uuid as instance_id, null::uuid as claim_id, 0 as mail_read, true as leaves_mail where false
), after_changed as materialized (
    -- What uses this is done when the rows that change are locked: those locks are waited for.
    select worker_id from fence where (select count(*) from changed) is not null
), delivery_in as (
    select *
    from unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[],
                $6::bytea[], $7::text[], $8::text[],
                $9::timestamptz[], $72::text[], $73::text[])
        as d(delivery_id, source, external_id, digest, body, workflow, business_key, received_at,
             outcome, reason)
), new_delivery as (
    -- if start
    insert into amends.delivery
        (delivery_id, source, external_id, digest, body, workflow, business_key, received_at,
         outcome, reason)
    select d.delivery_id, d.source, d.external_id, d.digest, d.body, d.workflow, d.business_key,
           d.received_at, d.outcome, d.reason
    from delivery_in d cross join after_changed
    order by d.source, d.external_id
    on conflict (source, external_id) do nothing
    returning delivery_id, workflow
    -- else select null::uuid as delivery_id, null::text as workflow where false
), start_in as (
    select *
    from unnest($10::uuid[], $11::text[], $12::int[], $13::text[],
                $14::uuid[], $15::bytea[], $16::timestamptz[],
                $17::boolean[], $18::text[], $19::smallint[],
                $20::uuid[], $67::uuid[], $68::int[])
        as s(instance_id, workflow, version, business_key, claim_id, head_hash, created_at, delivered,
             attributes, priority, parent_id, parent_claim_id, parent_mail_read)
), parent as materialized (
    -- if child
    -- A child is started by who holds its parent and has read all its mail. A row that is locked is
    -- passed over: mail may be on its way. So is one that changes here; its change has asked that.
    select i.instance_id
    from start_in s
    cross join after_changed
    join amends.instance i on i.instance_id = s.parent_id
    where i.worker_id is not distinct from after_changed.worker_id
      and i.claim_id = s.parent_claim_id
      and i.mail_count = s.parent_mail_read
    for key share of i skip locked
    -- else select null::uuid as instance_id where false
), new_instance as (
    -- if start
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, worker_id, claim_id, run_at,
         head_seq, head_hash, created_at, updated_at, attributes, priority, parent_id)
    select s.instance_id, s.workflow, s.version, s.business_key,
           case when s.claim_id is null then 'pending' else 'running' end,
           case when s.claim_id is not null then after_changed.worker_id end,
           s.claim_id,
           case when s.claim_id is null then s.created_at end,
           0, s.head_hash, s.created_at, s.created_at, s.attributes::json,
           s.priority, s.parent_id
    from start_in s cross join after_changed
    -- A start's delivery and its instance share their id.
    where (not s.delivered or s.instance_id in (select delivery_id from new_delivery))
      and (s.parent_id is null
           or s.parent_id in (select instance_id from parent)
           or (s.parent_id, s.parent_claim_id, s.parent_mail_read)
              in (select instance_id, claim_id, mail_read from changed where not leaves_mail))
    order by s.workflow, s.business_key
    on conflict (workflow, business_key) do nothing
    returning instance_id
    -- else select null::uuid as instance_id where false
), new_attribute as (
    -- if start
    insert into amends.attribute (instance_id, name, value)
    select a.instance_id, a.name, a.value
    from unnest($21::uuid[], $22::text[], $23::text[]) as a(instance_id, name, value)
    where (a.instance_id in (select instance_id from new_instance)) is true
    -- else select where false
), record_in as (
    select *
    from unnest($42::uuid[], $43::int[], $44::text[], $45::text[], $46::int[],
                $47::text[], $48::text[], $49::text[], $50::timestamptz[],
                $51::bytea[], $52::smallint[])
        as r(instance_id, seq, kind, step, attempt, payload, events, actor, at, hash, gate)
), new_record as (
    -- A number that somebody else takes at this moment makes the whole statement fail, which is
    -- then sent again and sees it.
    insert into amends.record
        (instance_id, seq, kind, step, attempt, payload, events, actor, at, hash)
    select r.instance_id, r.seq, r.kind, r.step, r.attempt, r.payload::json, r.events::json, r.actor,
           r.at, r.hash
    from record_in r
    where (r.gate = 0 and r.instance_id in (select instance_id from held))
       or (r.gate = 1 and r.instance_id in (select instance_id from new_instance))
       or (r.gate = 2 and r.instance_id in (select instance_id from changed))
    returning instance_id, seq
), new_event as (
    insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
    select e.subscription, e.shard, e.workflow, e.key, e.instance_id, e.seq, e.ordinal
    from unnest($53::text[], $54::smallint[], $55::text[], $56::text[],
                $57::uuid[], $58::int[], $59::smallint[])
            with ordinality
            as e(subscription, shard, workflow, key, instance_id, seq, ordinal, position)
    where ((e.instance_id, e.seq) in (select instance_id, seq from new_record)) is true
    order by e.position
), new_movement as (
    insert into amends.ledger (instance_id, seq, ordinal, kind, amount_minor, currency, reference)
    select m.instance_id, m.seq, m.ordinal, m.kind, m.amount_minor, m.currency, m.reference
    from unnest($60::uuid[], $61::int[], $62::smallint[], $63::text[],
                $64::bigint[], $65::text[], $66::text[])
        as m(instance_id, seq, ordinal, kind, amount_minor, currency, reference)
    where ((m.instance_id, m.seq) in (select instance_id, seq from new_record)) is true
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
