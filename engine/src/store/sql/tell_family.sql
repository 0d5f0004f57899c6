-- Gives a command to instances whose rows are locked, on behalf of their parents: the command is
-- kept, and becomes mail that they cannot end or wait without reading.
with told as (
    update amends.instance i
    set mail_count = i.mail_count + 1,
        held = coalesce($7::boolean, i.held),
        run_at = case when i.worker_id is null then least(i.run_at, $5) end
    from unnest($1::uuid[], $2::uuid[]) as t(instance_id, command_id)
    where i.instance_id = t.instance_id
    returning i.instance_id, t.command_id, i.status, i.mail_count,
              'instance ' || i.parent_id as actor
), kept as (
    insert into amends.command
        (command_id, instance_id, command, actor, reason, status_seen, answer, given_at)
    select command_id, instance_id, $6, actor, $3, status, 'accepted', $5
    from told
)
insert into amends.mail (instance_id, mail_seq, kind, name, body, actor, sent_at)
select instance_id, mail_count, 'command', $6, $4::text::json, actor, $5
from told
