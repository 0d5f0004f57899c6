-- Takes due instances that nobody holds: new ones, due timers, mail, those of a dead worker.
--
-- One path for all of them, and only for workflow versions that this process can run; of each
-- priority (`$7`) at most so many (`$8`), in the order of that list, and among those of a version the
-- one that has been due for longest. Each version has
-- its own range of the index in each priority, so neither what is not due yet nor what others run is
-- walked through. Which version comes first is up to the order of the lists. `was` tells an instance that
-- was released from one whose worker was lost: the latter still says running. `$6` names the
-- claim: if its answer is lost, what it took is found by that name.
with fence as materialized (
    select worker_id from amends.worker
    where worker_id = $1 and draining_since is null
    for key share
), due as materialized (
    select d.instance_id, d.status, d.parked_on, d.claim_id
    from fence
    cross join unnest($7::smallint[], $8::bigint[]) as p(priority, most)
    cross join lateral (
        select of_version.*
        from unnest($3::text[], $4::int[]) as v(workflow, version)
        cross join lateral (
            select i.instance_id, i.status, i.parked_on, i.claim_id
            from amends.instance i
            where i.priority = p.priority
              and i.workflow = v.workflow
              and i.version = v.version
              and i.worker_id is null
              -- Suspects are claimed by claim_suspects.sql.
              and i.losses < 2
              and i.run_at is not null
              and i.run_at <= coalesce($2::timestamptz, clock_timestamp())
            order by i.run_at
            limit $5
            for update of i skip locked
        ) of_version
        limit p.most
    ) d
    limit $5
)
update amends.instance i
set worker_id = $1,
    claim_id = $6,
    claimed_at = coalesce($2::timestamptz, clock_timestamp()),
    on_trial = false,
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
