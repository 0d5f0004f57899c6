-- What workers can run and where they deliver events; events of subscriptions that nobody has.
--
-- worker                gains the versions of workflows that it runs, and its subscriptions
-- subscription          every subscription that a worker has ever had
-- leftover              rows of the outbox whose subscription no worker has: no relay walks them
-- subscription_command  what people asked of such subscriptions, with what they were answered;
--                       append-only
--
-- Adds columns without a default, and tables: nothing waits. A release before this one leaves the
-- columns empty. While one of its workers is there, nobody is taken to lack anything.

-- Such as fulfilment@1. Empty of a worker that takes nothing up; null of an earlier release.
alter table amends.worker add column workflows text[];
alter table amends.worker add column subscriptions text[];

create table amends.subscription (
    name text primary key,
    -- Since when no worker has it, as far as anybody has seen. Null while one does.
    gone_since timestamptz
);
insert into amends.subscription (name) select distinct subscription from amends.outbox;

-- As in outbox. A row goes back, under its number, when a worker has its subscription again.
create table amends.leftover (
    outbox_id bigint primary key,
    subscription text not null,
    shard smallint not null,
    workflow text not null,
    key text not null,
    instance_id uuid not null,
    seq integer not null,
    ordinal smallint not null
);
create index leftover_subscription on amends.leftover (subscription, outbox_id);

create table amends.subscription_command (
    command_id uuid primary key,
    subscription text not null,
    command text not null check (command in ('drop')),
    actor text not null,
    reason text not null,
    answer text not null,
    -- How many events were dropped.
    events bigint not null,
    given_at timestamptz not null
);
create index subscription_command_latest on amends.subscription_command (given_at);

create trigger subscription_command_is_append_only before update or delete
    on amends.subscription_command
    for each row execute function amends.refuse_change();
create trigger subscription_command_is_never_truncated before truncate
    on amends.subscription_command
    for each statement execute function amends.refuse_change();
