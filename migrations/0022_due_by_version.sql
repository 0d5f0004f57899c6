-- no-transaction
-- What is due, by the version that runs it: nobody walks through what only others run.
--
-- Builds an index on instance concurrently, so nobody waits. A release before this one uses it
-- too, and sorts what it finds.

create index concurrently if not exists instance_due_by_version
    on amends.instance (priority, workflow, version, run_at)
    where worker_id is null and run_at is not null and losses < 2;
