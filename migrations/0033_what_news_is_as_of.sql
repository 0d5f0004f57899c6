-- What news of an order says, it says as of a time of its sender's clock.
--
-- delivery_outcome.as_of  that time, where the delivery was news of an instance and was not stale;
--                         what is older than the latest changes nothing
--
-- Adds a column that may be null: nothing waits. A release before this one hears no news.

alter table amends.delivery_outcome add column as_of timestamptz;
