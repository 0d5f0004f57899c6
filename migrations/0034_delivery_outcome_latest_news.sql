-- no-transaction
-- The latest news of an instance is found by its time.
--
-- Builds an index on delivery_outcome concurrently, so nobody waits. A release before this one does
-- not use it.

create index concurrently if not exists delivery_outcome_latest_news
    on amends.delivery_outcome (instance_id, as_of)
    where as_of is not null;
