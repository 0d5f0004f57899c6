-- no-transaction
-- Deliveries that started nothing are found by what they are about.
--
-- Builds an index on delivery concurrently, so nobody waits. A release before this one does not use
-- it.

create index concurrently if not exists delivery_by_key
    on amends.delivery (business_key, delivery_id)
    where outcome is not null;
