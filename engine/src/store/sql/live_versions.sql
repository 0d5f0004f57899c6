-- The workflow versions that live instances are on: how many stand where, and since when.
--
-- Read from the index of live instances alone; what has ended is not looked at.
select workflow, version,
       count(*) filter (where status = 'pending') as "pending!",
       count(*) filter (where status = 'running') as "running!",
       count(*) filter (where status = 'waiting') as "waiting!",
       count(*) filter (where status = 'compensating') as "compensating!",
       count(*) filter (where status = 'stuck') as "stuck!",
       min(created_at) as "oldest!"
from amends.instance
where status in ('pending', 'running', 'waiting', 'compensating', 'stuck')
group by workflow, version
