-- What became of what came in.
--
-- delivery.outcome, .reason  what a delivery that starts nothing came to when it was received; null
--                            where it was to start an instance
-- delivery_outcome           what became of a delivery later, such as one that was translated again;
--                            the latest counts; append-only
-- intake_case.problems       where in a delivery what is wrong, as JSON
--
-- Adds columns that may be null, and a table: nothing waits. A release before this one keeps
-- deliveries without an outcome.

alter table amends.delivery
    add column outcome text,
    add column reason text;

create table amends.delivery_outcome (
    -- Ids grow with time.
    outcome_id uuid primary key,
    delivery_id uuid not null,
    outcome text not null,
    -- Why, as a stable code, where the outcome needs one.
    reason text,
    -- What it started, or acted on.
    instance_id uuid,
    -- Who had it carried out, and what they said of it.
    actor text not null,
    note text,
    decided_at timestamptz not null
);
create index delivery_outcome_latest on amends.delivery_outcome (delivery_id, outcome_id);
create index delivery_outcome_kind on amends.delivery_outcome (outcome, delivery_id);

create trigger delivery_outcome_is_append_only
    before update or delete on amends.delivery_outcome
    for each row execute function amends.refuse_change();
create trigger delivery_outcome_is_never_truncated
    before truncate on amends.delivery_outcome
    for each statement execute function amends.refuse_change();

alter table amends.intake_case add column problems json;
