-- What the database has acknowledged and does not have any more.
--
-- commit_loss           a commit that was acknowledged, and was found missing by a server;
--                       append-only
-- loss_acknowledgement  that a person knows of it, and lets orders in again; append-only
--
-- Adds tables: nothing waits. A release before this one does not look at them, and takes orders in.

create table amends.commit_loss (
    loss_id uuid primary key,
    -- What is missing, in words; the instance and its record, if it is one.
    lost text not null,
    instance_id uuid,
    seq integer,
    -- Which server has found it missing.
    found_by text not null,
    found_at timestamptz not null
);
create table amends.loss_acknowledgement (
    loss_id uuid primary key references amends.commit_loss,
    actor text not null,
    reason text not null,
    given_at timestamptz not null
);

create trigger commit_loss_is_append_only before update or delete on amends.commit_loss
    for each row execute function amends.refuse_change();
create trigger commit_loss_is_never_truncated before truncate on amends.commit_loss
    for each statement execute function amends.refuse_change();
create trigger loss_acknowledgement_is_append_only
    before update or delete on amends.loss_acknowledgement
    for each row execute function amends.refuse_change();
create trigger loss_acknowledgement_is_never_truncated
    before truncate on amends.loss_acknowledgement
    for each statement execute function amends.refuse_change();
