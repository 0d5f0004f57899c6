-- Which database this is.
--
-- identity  one row: an id that no other database has, and since when
--
-- Adds a table: nothing waits. A release before this one does not look at it. What is restored from a
-- copy has the id of what was copied; who wants to run both gives one of them another id.

create table amends.identity (
    is_one boolean primary key default true check (is_one),
    database_id uuid not null,
    -- Which part of a larger whole it is; empty: it is the whole.
    cell text not null default '',
    made_at timestamptz not null
);
insert into amends.identity (database_id, made_at) values (gen_random_uuid(), now());

create trigger identity_is_never_deleted before delete on amends.identity
    for each row execute function amends.refuse_change();
create trigger identity_is_never_truncated before truncate on amends.identity
    for each statement execute function amends.refuse_change();
