-- Schedules that have something to do for this process: a definition to be stored, a next firing to
-- be found anew, one that has come due, or one that is planned. With `$5`, all that it answers for.
--
-- Whoever defines a schedule as it is stored, with the time zones by which its next firing was
-- found, answers for it. Where that is nobody who lives, or one whom another comes before, the
-- definition that was met last comes first, and among equal ones the newest time zones.
select s.name, s.revision, s.cron, s.zone, s.next_at, s.paused_at is not null as "is_paused!",
       stored.is_ours as "is_ours!", stored.decided_until as "decided_until!",
       exists (
           select from amends.instance i
           where i.instance_id = s.last_instance_id and i.ended_at is null
       ) as "is_busy!",
       head.fire_key as "fire_key?", head.fire_at as "fire_at?", clock.present as "present!"
from (select coalesce($4::timestamptz, clock_timestamp()) as present) clock
cross join unnest($1::text[], $2::text[]) as ours (name, definition)
join amends.schedule s on s.name = ours.name
join amends.schedule_definition known on known.definition = ours.definition
cross join lateral (
    select s.definition = ours.definition and s.zones is not distinct from $3
               and s.next_at is not distinct from s.derived_next_at as is_ours,
           -- A release that knows next_at alone has decided about all that comes before it.
           case when s.next_at is not distinct from s.derived_next_at and s.decided_until is not null
               then s.decided_until
               else greatest(s.decided_until,
                   least(s.next_at - interval '1 microsecond', clock.present))
           end as decided_until
) stored
left join lateral (
    select f.fire_key, f.fire_at from amends.firing f
    where f.schedule = s.name and f.state = 'planned'
    order by f.turn, f.fire_at limit 1
) head on true
where ($5 or not stored.is_ours or (s.paused_at is null and s.next_at <= clock.present)
          or head.fire_key is not null)
  and (stored.is_ours or not exists (
      select from amends.worker w
      cross join unnest(w.schedules) as theirs (definition)
      join amends.schedule_definition other on other.definition = theirs.definition
      where w.lease_until > clock.present and w.draining_since is null
        and other.schedule = s.name
        and (other.number > known.number or (other.number = known.number and w.zones > $3))
  ))
order by s.next_at
