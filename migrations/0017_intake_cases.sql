-- What comes in and contradicts what was accepted is put to a person.
--
-- intake_case          deliveries that a person has to decide about, with the event that tells of
--                      each; kept for ever
-- intake_case_command  what people asked about cases, with what they were answered; append-only
--
-- Adds tables: nothing waits. A release before this one leaves the events of cases in the outbox.

create table amends.intake_case (
    case_id uuid primary key,
    -- Why a person has to decide, and in words.
    code text not null,
    message text not null,
    -- Who sent it, and what is kept of it.
    source text not null,
    delivery_id uuid not null,
    -- What it would start, and what it is about, as far as that is known.
    workflow text not null,
    business_key text,
    -- The instance that it contradicts, and whether that was held because of it.
    instance_id uuid,
    held boolean not null,
    -- What is published, as in the events of a record.
    events json not null,
    opened_at timestamptz not null,
    settled_at timestamptz,
    settled_by text,
    settled_reason text,
    -- However often a delivery is repeated, it is one case.
    constraint intake_case_once unique (delivery_id, code)
);
create index intake_case_open on amends.intake_case (case_id) where settled_at is null;
create index intake_case_instance on amends.intake_case (instance_id);
create index intake_case_key on amends.intake_case (business_key);

create trigger intake_case_is_never_deleted before delete on amends.intake_case
    for each row execute function amends.refuse_change();
create trigger intake_case_is_never_truncated before truncate on amends.intake_case
    for each statement execute function amends.refuse_change();

create table amends.intake_case_command (
    command_id uuid primary key,
    case_id uuid not null references amends.intake_case,
    command text not null,
    actor text not null,
    reason text not null,
    answer text not null,
    given_at timestamptz not null
);
create index intake_case_command_case on amends.intake_case_command (case_id);

create trigger intake_case_command_is_append_only
    before update or delete on amends.intake_case_command
    for each row execute function amends.refuse_change();
create trigger intake_case_command_is_never_truncated
    before truncate on amends.intake_case_command
    for each statement execute function amends.refuse_change();
