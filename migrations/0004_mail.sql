-- What people (and later other programs) say to instances.
--
-- mail        messages to an instance, kept for ever; numbered per instance by its mail_count
-- command     every command a person gave, with what he was answered, refusals too; append-only
--
-- Runs on an empty database.

create table amends.mail (
    instance_id uuid not null,
    mail_seq integer not null check (mail_seq > 0),
    kind text not null check (kind in ('command')),
    name text not null,
    body json not null,
    actor text not null,
    sent_at timestamptz not null,
    primary key (instance_id, mail_seq)
);

create table amends.command (
    command_id uuid primary key,
    instance_id uuid not null,
    command text not null,
    actor text not null,
    reason text not null,
    status_seen text not null,
    answer text not null,
    given_at timestamptz not null
);
create index command_instance on amends.command (instance_id);

create trigger command_is_never_truncated before truncate on amends.command
    for each statement execute function amends.refuse_change();
create trigger command_is_append_only before update or delete on amends.command
    for each row execute function amends.refuse_change();
create trigger mail_is_append_only before update or delete on amends.mail
    for each row execute function amends.refuse_change();
create trigger mail_is_never_truncated before truncate on amends.mail
    for each statement execute function amends.refuse_change();
