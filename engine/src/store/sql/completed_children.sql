-- The next completed children after `$2` that the live instances `$1` can still take back, of
-- whatever depth, as a claim would return them. Each belongs to one live instance.
with recursive completed_child as (
    select c.instance_id
    from amends.instance c
    where c.parent_id = any($1) and c.status = 'completed' and not c.past_pivot
    union all
    select c.instance_id
    from completed_child p
    -- Looked up one by one: how many are found is not known when this is planned.
    cross join lateral (
        select i.instance_id
        from amends.instance i
        where i.parent_id = p.instance_id and i.status = 'completed' and not i.past_pivot
        offset 0
    ) c
)
select i.instance_id, i.claim_id, i.workflow, i.version, i.business_key, i.priority,
       i.status as "was", i.past_pivot, i.failure_code, i.failure_message, i.mail_count,
       i.mail_read, i.losses, i.trials, i.lost_after_seconds, i.revision, i.parked_on
from (
    select instance_id from completed_child where instance_id > $2 order by instance_id limit $3
) page
join amends.instance i on i.instance_id = page.instance_id
order by i.instance_id
