-- Schedules: what is started by the clock.
--
-- schedule          one row per schedule that a build has ever defined: its definition, and how far
--                   it has come
-- firing            a local minute of a schedule for which something was decided; the primary key
--                   makes it happen once
-- schedule_command  what people asked of schedules, with what they were answered; append-only
--
-- Adds a column with a constant default to worker, and otherwise only tables: nothing waits. A
-- release that knows no schedules runs on it.

-- The definitions that the worker's build has, each as one text.
alter table amends.worker add column schedules text[] not null default '{}';

create table amends.schedule (
    name text primary key,
    -- All that is defined, as one text.
    definition text not null,
    cron text not null,
    zone text not null,
    workflow text not null,
    gap text not null,
    overlap text not null check (overlap in ('start', 'skip')),
    -- Raised by every change; a change is made only where it is still what was read.
    revision bigint not null default 0,
    -- The first firing that has not been decided about.
    next_at timestamptz,
    paused_at timestamptz,
    paused_by text,
    paused_reason text,
    -- The last span of firings that were let go: from the first of them, before the second.
    missed_from timestamptz,
    missed_before timestamptz,
    last_fired_at timestamptz,
    last_instance_id uuid
);

create table amends.firing (
    schedule text not null,
    -- The minute as the clock on the wall shows it, with its offset.
    fire_key text not null,
    fire_at timestamptz not null,
    kind text not null check (kind in ('due', 'trigger', 'backfill')),
    -- The command that asked for it, unless the clock did.
    command_id uuid,
    state text not null check (state in ('planned', 'started', 'skipped', 'refused')),
    -- Why it was skipped or refused.
    code text,
    message text,
    instance_id uuid,
    -- The revision of the schedule that planned it: firings start in this order, then by time.
    turn bigint not null,
    planned_at timestamptz not null,
    settled_at timestamptz,
    primary key (schedule, fire_key)
);

-- What is to be started.
create index firing_planned on amends.firing (schedule, turn, fire_at) where state = 'planned';
-- The latest firings of a schedule.
create index firing_latest on amends.firing (schedule, fire_at);

create table amends.schedule_command (
    command_id uuid primary key,
    schedule text not null,
    command text not null,
    -- What a backfill was asked for.
    backfill_from timestamptz,
    backfill_until timestamptz,
    actor text not null,
    reason text not null,
    answer text not null,
    given_at timestamptz not null
);
create index schedule_command_latest on amends.schedule_command (schedule, given_at);

create trigger schedule_command_is_append_only before update or delete on amends.schedule_command
    for each row execute function amends.refuse_change();
create trigger schedule_command_is_never_truncated before truncate on amends.schedule_command
    for each statement execute function amends.refuse_change();
