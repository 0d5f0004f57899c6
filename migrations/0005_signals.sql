-- Signals: news from the outside world for an instance, also before there is one.
--
-- mail          gains signals, and the sender's own id, by which a repetition is known
-- early_signal  signals for a business key that has no instance yet; the instance takes them over
--               before it waits or ends
-- instance      gains whether it is held, and how often its worker was lost without progress
--
-- Runs on any size: no table is rewritten.

alter table amends.mail drop constraint mail_kind_check;
alter table amends.mail add constraint mail_kind_check check (kind in ('command', 'signal'));
alter table amends.mail add column mail_id text;
create unique index mail_once on amends.mail (instance_id, mail_id) where mail_id is not null;

create table amends.early_signal (
    early_id bigint generated always as identity primary key,
    workflow text not null,
    business_key text not null,
    signal_id text,
    name text not null,
    body json not null,
    sender text not null,
    sent_at timestamptz not null
);
create index early_signal_key on amends.early_signal (workflow, business_key);
create unique index early_signal_once on amends.early_signal (workflow, business_key, signal_id)
    where signal_id is not null;

-- Somebody has asked for no further effect to begin.
alter table amends.instance add column held boolean not null default false;
-- Workers lost while they held it, since its row was last written.
alter table amends.instance add column losses integer not null default 0;
