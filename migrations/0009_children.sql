-- Instances that are started by instances.
--
-- instance  gains its parent, and whether the parent has been told how it ended
-- mail      gains what children say to their parents
--
-- Builds an index on instance; on a large table build it concurrently beforehand, under the same
-- name.

alter table amends.mail drop constraint mail_kind_check;
alter table amends.mail add constraint mail_kind_check
    check (kind in ('command', 'signal', 'child'));

alter table amends.instance add column parent_id uuid;
alter table amends.instance add column parent_told boolean not null default false;

-- Children that have ended and whose parent does not know it.
create index if not exists instance_untold on amends.instance (instance_id)
    where parent_id is not null and ended_at is not null and not parent_told;
