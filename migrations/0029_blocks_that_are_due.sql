-- no-transaction
-- Blocked keys that are due are found without a look at the others.
--
-- Builds an index on key_block concurrently, so nobody waits. A release before this one does not use
-- it.

create index concurrently if not exists key_block_due
    on amends.key_block (subscription, blocked_until)
    where parked_at is null and (outbox_id is not null or shard is null);
