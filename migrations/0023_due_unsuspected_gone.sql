-- no-transaction
-- The index that 0022 has replaced.
--
-- Drops an index of instance concurrently, so nobody waits.

drop index concurrently if exists amends.instance_due_unsuspected;
