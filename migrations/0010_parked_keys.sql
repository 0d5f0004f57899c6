-- Keys that wait for a person.
--
-- key_block    gains the event at the head of the key, how often it was refused while other events
--              of its subscription were taken, since when the key is parked, and what a person has
--              asked for
-- key_command  what people asked of keys, with what they were answered; append-only
--
-- Adds columns without a default or with a constant one, and a table: nothing waits. Keys that are
-- blocked already are shown after their next attempt. A release before this one goes on trying
-- parked keys.

-- The row of the outbox that could not be delivered, its id as its receiver sees it, and whose it
-- is.
alter table amends.key_block add column outbox_id bigint;
alter table amends.key_block add column event_id text;
alter table amends.key_block add column instance_id uuid;
alter table amends.key_block add column since timestamptz;
alter table amends.key_block add column refusals integer not null default 0;
-- Nothing of the key is delivered until a person says what is to be done.
alter table amends.key_block add column parked_at timestamptz;
-- How much people have asked for, and how much of it the relay has heard.
alter table amends.key_block add column commands integer not null default 0;
alter table amends.key_block add column heard integer not null default 0;
-- The event is not to be delivered: its receiver is told so in its place.
alter table amends.key_block add column is_skipped boolean not null default false;

create index key_block_commanded on amends.key_block (subscription, key) where commands > heard;

create table amends.key_command (
    command_id uuid primary key,
    subscription text not null,
    key text not null,
    event_id text not null,
    command text not null check (command in ('retry', 'skip')),
    actor text not null,
    reason text not null,
    answer text not null,
    given_at timestamptz not null
);
create index key_command_latest on amends.key_command (given_at);

create trigger key_command_is_append_only before update or delete on amends.key_command
    for each row execute function amends.refuse_change();
create trigger key_command_is_never_truncated before truncate on amends.key_command
    for each statement execute function amends.refuse_change();
