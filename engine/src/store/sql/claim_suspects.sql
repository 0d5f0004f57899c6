-- Takes up suspects of one level ($7) to be tried, those first that were lost soonest.
--
-- Only those that were held for at most `$8` seconds when their workers were lost. Otherwise as
-- the claim of everything else.
with fence as materialized (
    select worker_id from amends.worker
    where worker_id = $1 and draining_since is null
    for key share
), due as materialized (
    select d.instance_id, d.status, d.parked_on, d.claim_id
    from fence
    cross join lateral (
        select i.instance_id, i.status, i.parked_on, i.claim_id
        from amends.instance i
        where i.trials = $7
          and i.lost_after_seconds <= $8
          and i.losses >= 2
          and i.worker_id is null
          and i.run_at is not null
          and i.run_at <= coalesce($2::timestamptz, clock_timestamp())
          and (i.workflow, i.version) in (select * from unnest($3::text[], $4::int[]))
        order by i.lost_after_seconds
        limit $5
        for update of i skip locked
    ) d
)
update amends.instance i
set worker_id = $1,
    claim_id = $6,
    claimed_at = coalesce($2::timestamptz, clock_timestamp()),
    on_trial = true,
    run_at = null,
    parked_on = null,
    status = case when due.status in ('pending', 'waiting') then 'running' else due.status end
from due
where i.instance_id = due.instance_id
returning i.instance_id, i.claim_id, i.workflow, i.version, i.business_key, i.priority,
          due.status as "was!", i.past_pivot, due.parked_on is not null as "was_parked!",
          due.claim_id is null as "was_freed!",
          i.failure_code, i.failure_message, i.mail_count, i.mail_read, i.losses, i.trials,
          i.lost_after_seconds, i.revision
