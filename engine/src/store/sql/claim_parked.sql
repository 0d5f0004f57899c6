-- Takes up instances that wait for a dependency ($7), the most urgent and oldest first.
--
-- Of the first `$8` those that have not moved for longest: where one is to find out whether the
-- dependency is up again, they take turns at it. None of them is a suspect: who waits has let go
-- of its instance in good order. Otherwise as the claim of everything else.
with fence as materialized (
    select worker_id from amends.worker
    where worker_id = $1 and draining_since is null
    for key share
), waiting as materialized (
    select first.instance_id, first.status
    from fence
    cross join lateral (
        select i.instance_id, i.status, i.updated_at
        from amends.instance i
        where i.parked_on = $7
          and i.worker_id is null
          and (i.workflow, i.version) in (select * from unnest($3::text[], $4::int[]))
        order by i.priority, i.instance_id
        limit $8
        for update of i skip locked
    ) first
    order by first.updated_at, first.instance_id
    limit $5
)
update amends.instance i
set worker_id = $1,
    claim_id = $6,
    claimed_at = coalesce($2::timestamptz, clock_timestamp()),
    on_trial = false,
    run_at = null,
    parked_on = null,
    status = case when waiting.status in ('pending', 'waiting') then 'running'
                  else waiting.status end
from waiting
where i.instance_id = waiting.instance_id
returning i.instance_id, i.claim_id, i.workflow, i.version, i.business_key, i.priority,
          waiting.status as "was!", i.past_pivot, true as "was_parked!", false as "was_freed!",
          i.failure_code, i.failure_message, i.mail_count, i.mail_read, i.losses, i.trials,
          i.lost_after_seconds, i.revision
