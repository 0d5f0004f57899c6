-- What goes out: events wait here until every subscription has them.
--
-- outbox       one small row per event and subscription; points at the record that holds the bytes;
--              deleted when delivered
-- outbox_shard who delivers which share of the keys
-- key_block    keys whose head could not be delivered, and when to try again
--
-- Runs on an empty database.

create table amends.outbox (
    outbox_id bigint generated always as identity primary key,
    subscription text not null,
    shard smallint not null,
    workflow text not null,
    key text not null,
    instance_id uuid not null,
    seq integer not null,
    -- Which of the record's events, from 0.
    ordinal smallint not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

create table amends.outbox_shard (
    shard smallint primary key,
    worker_id uuid
);
insert into amends.outbox_shard (shard) select generate_series(0, 15);

create table amends.key_block (
    subscription text not null,
    key text not null,
    attempts integer not null,
    blocked_until timestamptz not null,
    error text not null,
    primary key (subscription, key)
);
