-- What instances wait for besides time and mail, and who comes first.
--
-- dependency       something that steps call, with its limits: is it up, and who may call how fast
-- dependency_slot  how many calls of it each worker may have under way
-- instance         gains a priority, and the dependency that it waits for
--
-- Builds two indexes on instance; on a large table build them concurrently beforehand, under the
-- same names.

create table amends.dependency (
    name text primary key,
    state text not null default 'up' check (state in ('up', 'down', 'recovering')),
    -- When it went down, or came up again.
    since timestamptz not null,
    -- Why it is taken to be down.
    failure_code text,
    failure_message text,
    -- How long it was left alone last.
    pause interval not null default '0',
    -- When it is looked after next: tried again, or let more instances through.
    tend_at timestamptz not null,
    -- While recovering: how many instances may call it at a time.
    admitted integer not null default 0,
    -- The last call that it answered, noted while it is not up.
    answered_at timestamptz,
    -- When the next call may be made, if there is a rate.
    next_call_at timestamptz not null
);

create table amends.dependency_slot (
    name text not null references amends.dependency,
    worker_id uuid not null references amends.worker on delete cascade,
    slots integer not null check (slots >= 0),
    primary key (name, worker_id)
);

alter table amends.instance add column priority smallint not null default 1
    check (priority between 0 and 2);
alter table amends.instance add column parked_on text;

-- The claim: due instances that nobody holds, the most urgent first.
create index if not exists instance_due_by_priority on amends.instance (priority, run_at)
    where worker_id is null and run_at is not null;
drop index amends.instance_due;
create index if not exists instance_parked on amends.instance (parked_on, priority, instance_id)
    where parked_on is not null;
