-- Signals are known by their name, their sender and the sender's id, within their instance.
--
-- mail          gains why a message cannot be taken by its instance, if that was seen when it was
--               sent; a signal's id is its sender's affair, and ends of children have ids of their
--               own
-- early_signal  gains the sender's id, apart from the column that one id of a business key can
--               stand in once
--
-- Adds columns without a default: no table is rewritten. Builds indexes on mail; on a large table
-- build them concurrently beforehand, under the same names. A release before this one goes on: it
-- asks for an id whoever has sent it, and leaves the new columns empty. It needs
-- early_signal_once, which a later release drops together with signal_id.

alter table amends.mail add column refused text;
create unique index if not exists mail_signal_once on amends.mail (instance_id, mail_id, name, actor)
    where kind = 'signal' and mail_id is not null;
create unique index if not exists mail_child_once on amends.mail (instance_id, mail_id)
    where kind = 'child';
-- One id for everything that an instance is sent.
drop index amends.mail_once;

alter table amends.early_signal add column sender_id text;
create unique index early_signal_sender_once
    on amends.early_signal (workflow, business_key, sender_id, name, sender)
    where sender_id is not null;
