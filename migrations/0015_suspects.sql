-- Who may be to blame for the loss of a worker.
--
-- instance   gains when it was claimed, whether its worker tries it as a suspect, how often that
--            worker was lost, and how long it had been held when its workers were lost
--
-- Adds columns with constant defaults: nothing waits. Builds two indexes on instance; on a large
-- table build them concurrently beforehand, under the same names. A release before this one runs
-- suspects like everything else, and puts them to a person after five losses of any sort.

-- Set by the claim; null once a take-over has freed it.
alter table amends.instance add column claimed_at timestamptz;
-- It was claimed as a suspect. Means nothing while losses is below two.
alter table amends.instance add column on_trial boolean not null default false;
-- How far its trials have come. Means nothing while losses is zero.
alter table amends.instance add column trials integer not null default 0;
-- The longest that it was held when a worker was lost. Means nothing while losses is zero.
alter table amends.instance add column lost_after_seconds integer not null default 0;

-- The claim of everything but suspects.
create index if not exists instance_due_unsuspected on amends.instance (priority, run_at)
    where worker_id is null and run_at is not null and losses < 2;
-- The claim of suspects.
create index if not exists instance_suspect on amends.instance (trials, lost_after_seconds)
    where worker_id is null and run_at is not null and losses >= 2;
