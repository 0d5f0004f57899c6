-- Starts one instance within a transaction of the caller's: unowned, and due at once.
--
-- As in commit.sql, but without the fence: what nobody owns, any worker may write, and the caller's
-- transaction holds up no take-over. Returns whether the instance is there because of this.
with new_delivery as (
    insert into amends.delivery
        (delivery_id, source, external_id, digest, body, workflow, business_key, received_at)
    select $1, $2, $3, $4, $5, $7, $9, $6
    where $2::text is not null
    on conflict (source, external_id) do nothing
    returning delivery_id
), new_instance as (
    insert into amends.instance
        (instance_id, workflow, version, business_key, status, run_at, head_seq, head_hash,
         created_at, updated_at, attributes, priority)
    select $1, $7, $8, $9, 'pending', $10, 0, $11, $10, $10, $12::text::json, $13
    where $2::text is null or exists (select from new_delivery)
    on conflict (workflow, business_key) do nothing
    returning instance_id
), new_attribute as (
    insert into amends.attribute (instance_id, name, value)
    select i.instance_id, a.name, a.value
    from new_instance i cross join unnest($14::text[], $15::text[]) as a(name, value)
), new_record as (
    insert into amends.record (instance_id, seq, kind, payload, events, at, hash)
    select i.instance_id, 0, $16, $17::text::json, $18::text::json, $10, $11
    from new_instance i
    returning instance_id, seq
), new_event as (
    insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
    select s.subscription, $19, $7, $9, r.instance_id, r.seq, o.ordinal
    from new_record r
    cross join generate_series(0, $20::int - 1) as o(ordinal)
    cross join unnest($21::text[]) with ordinality as s(subscription, position)
    order by o.ordinal, s.position
)
select exists (select from new_record) as "written!"
