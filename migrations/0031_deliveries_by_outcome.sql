-- no-transaction
-- Deliveries that started nothing are found by what they came to.
--
-- Builds an index on delivery concurrently, so nobody waits. A release before this one does not use
-- it.

create index concurrently if not exists delivery_by_outcome
    on amends.delivery (outcome, delivery_id)
    where outcome is not null;
