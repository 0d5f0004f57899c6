-- Blocked keys are kept and found in portions.
--
-- key_block  gains the shard of its key, and when its head was last tried. A block without an
--            outbox_id is of a key that nothing keeps any more but the order of its rows: they are
--            still to be brought from the beginning of the outbox
--
-- Adds columns without a default. A release before this one leaves them empty, and goes on with such
-- blocks as with those that have run out.

alter table amends.key_block add column shard smallint;
-- By the clock of the relay that tried it.
alter table amends.key_block add column tried_at timestamptz;
