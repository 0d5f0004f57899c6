-- The workflow versions that live instances are on, or children of theirs that have completed and
-- can still be taken back: how many stand where, and since when.
--
-- Read from the index of live instances, and from the index by parent for what those have started.
-- Of what else has ended nothing is looked at: a child of which nothing is left, or that is past its
-- pivot, is never taken back, and neither is what is below it.
with recursive live as materialized (
    select instance_id, workflow, version, status, created_at
    from amends.instance
    where status in ('pending', 'running', 'waiting', 'compensating', 'stuck')
), completed_child as (
    select c.instance_id, c.workflow, c.version
    from live
    -- Looked up one by one: what it costs depends on what is live, and not on what has ended.
    cross join lateral (
        select i.instance_id, i.workflow, i.version
        from amends.instance i
        where i.parent_id = live.instance_id and i.status = 'completed' and not i.past_pivot
        offset 0
    ) c
    union all
    select c.instance_id, c.workflow, c.version
    from completed_child p
    cross join lateral (
        select i.instance_id, i.workflow, i.version
        from amends.instance i
        where i.parent_id = p.instance_id and i.status = 'completed' and not i.past_pivot
        offset 0
    ) c
), needed as (
    select workflow, version, status, created_at from live
    union all
    select workflow, version, 'completed', null from completed_child
)
select workflow as "workflow!", version as "version!",
       count(*) filter (where status = 'pending') as "pending!",
       count(*) filter (where status = 'running') as "running!",
       count(*) filter (where status = 'waiting') as "waiting!",
       count(*) filter (where status = 'compensating') as "compensating!",
       count(*) filter (where status = 'stuck') as "stuck!",
       count(*) filter (where status = 'completed') as "completed_children!",
       min(created_at) as oldest
from needed
group by workflow, version
