-- Schedules that have something to do: what has come due, or a firing that is planned.
select s.name, s.revision, s.next_at, s.paused_at is not null as "is_paused!",
       exists (
           select from amends.instance i
           where i.instance_id = s.last_instance_id and i.ended_at is null
       ) as "is_busy!",
       head.fire_key as "fire_key?", head.fire_at as "fire_at?", clock.present as "present!"
from (select coalesce($2::timestamptz, clock_timestamp()) as present) clock
cross join amends.schedule s
left join lateral (
    select f.fire_key, f.fire_at from amends.firing f
    where f.schedule = s.name and f.state = 'planned'
    order by f.turn, f.fire_at limit 1
) head on true
where s.definition = any($1)
  and ((s.paused_at is null and s.next_at <= clock.present) or head.fire_key is not null)
order by s.next_at
