-- Which instances are live, found without a look at those that have ended.
--
-- instance_live  what has not ended, in order of acceptance; holds what the report of versions
--                counts, so that the report is read from the index
--
-- Runs on a live database: orders wait while the index is built, which reads the table once.

create index instance_live on amends.instance (instance_id)
    include (workflow, version, status, created_at)
    where status in ('pending', 'running', 'waiting', 'compensating', 'stuck');
