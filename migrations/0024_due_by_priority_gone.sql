-- no-transaction
-- The index that 0015 has replaced.
--
-- Drops an index of instance concurrently, so nobody waits.

drop index concurrently if exists amends.instance_due_by_priority;
