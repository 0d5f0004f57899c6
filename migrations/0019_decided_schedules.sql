-- Schedules: up to when is decided, by which time zones, and which definition counts.
--
-- schedule_definition  every definition that a process has ever brought, by the order in which they
--                      were first met; of two that are running, the later one counts
--
-- Adds columns that are empty or have a constant default, and a table that gets a row per schedule:
-- nothing waits. A release before this one reads and writes next_at alone. Where that is not what
-- derived_next_at says, such a release has decided since, and what is decided is read from next_at.

-- The time-zone database of the worker's build, such as 2025b.
alter table amends.worker add column zones text collate "C" not null default '';

create table amends.schedule_definition (
    -- As in schedule and worker.
    definition text primary key,
    schedule text not null,
    number bigint not null generated always as identity
);
insert into amends.schedule_definition (definition, schedule)
select definition, name from amends.schedule order by name;

alter table amends.schedule
    -- Of the instances that it starts, as in instance.
    add column priority smallint not null default 1,
    -- Every firing up to here is decided. next_at is the first one after it.
    add column decided_until timestamptz,
    -- The time-zone database by which next_at was found.
    add column zones text collate "C",
    add column derived_next_at timestamptz;
