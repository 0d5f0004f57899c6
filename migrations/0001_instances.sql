-- The heart: who works, what is running, what has happened.
--
-- worker      one row per process; its existence is that process's right to write
-- instance    one narrow row per instance; rewritten when its status changes, when mail is read and
--             before its pivot is tried, not per step
-- record      the histories; append-only, hash-chained per instance; payloads live here only
-- attribute   what instances can be found by
-- ledger      money that steps moved; a projection of records, for sums and searches
--
-- Runs on an empty database.

create schema if not exists amends;

create table amends.worker (
    worker_id uuid primary key,
    name text not null,
    started_at timestamptz not null,
    lease_until timestamptz not null,
    draining_since timestamptz,
    -- Whether it delivers events, and so takes its share of the outbox.
    relays boolean not null
);

create table amends.instance (
    instance_id uuid primary key,
    workflow text not null,
    version integer not null check (version > 0),
    business_key text not null,
    status text not null check (status in (
        'pending', 'running', 'waiting', 'compensating', 'stuck',
        'completed', 'compensated', 'cancelled', 'terminated')),
    -- The worker that holds it. No foreign key: a take-over deletes the worker first.
    worker_id uuid,
    -- The claim it was taken by, so that a claim whose answer was lost can be found again.
    claim_id uuid,
    -- When it is due, while nobody holds it. Null while it is held, stuck or ended.
    run_at timestamptz,
    failure_code text,
    failure_message text,
    -- A pivot is done, or may be at this moment: a cancel is refused.
    past_pivot boolean not null default false,
    mail_count integer not null default 0,
    mail_read integer not null default 0,
    -- What it can be found by, to be shown; searches go to the table attribute.
    attributes json not null,
    -- The last record, as of the last time this row was written.
    head_seq integer not null,
    head_hash bytea not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    ended_at timestamptz,
    constraint instance_business_key unique (workflow, business_key)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- The claim: due instances that nobody holds.
create index instance_due on amends.instance (run_at)
    where worker_id is null and run_at is not null;
-- Take-over: what a dead worker held.
create index instance_held on amends.instance (worker_id) where worker_id is not null;
-- Held instances whose worker has not read all their mail.
create index instance_mail on amends.instance (worker_id)
    where worker_id is not null and mail_count > mail_read;
-- Lists of what needs attention; ids grow with time, so newest first is this index backwards.
create index instance_attention on amends.instance (status, instance_id)
    where status in ('waiting', 'compensating', 'stuck');

create table amends.record (
    instance_id uuid not null,
    seq integer not null check (seq >= 0),
    kind text not null,
    step text,
    attempt integer,
    payload json not null,
    events json,
    actor text,
    at timestamptz not null,
    hash bytea not null check (length(hash) = 32),
    primary key (instance_id, seq)
);

create table amends.attribute (
    name text not null,
    value text not null,
    instance_id uuid not null,
    primary key (name, value, instance_id)
);

create table amends.ledger (
    instance_id uuid not null,
    seq integer not null,
    ordinal smallint not null,
    kind text not null check (kind in ('authorise', 'capture', 'refund', 'void')),
    amount_minor bigint not null check (amount_minor >= 0),
    currency char(3) not null,
    reference text not null,
    primary key (instance_id, seq, ordinal)
);

create function amends.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% rows are never changed', tg_table_name using errcode = 'insufficient_privilege';
end $$;

create trigger record_is_append_only before update or delete on amends.record
    for each row execute function amends.refuse_change();
create trigger record_is_never_truncated before truncate on amends.record
    for each statement execute function amends.refuse_change();
