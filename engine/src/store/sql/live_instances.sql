-- The next live instances after `$1`, in order of acceptance, as a claim would return them.
select instance_id, claim_id, workflow, version, business_key, priority, status as "was",
       past_pivot, failure_code, failure_message, mail_count, mail_read, losses, trials,
       lost_after_seconds, revision, parked_on
from amends.instance
where status in ('pending', 'running', 'waiting', 'compensating', 'stuck')
  and instance_id > $1
order by instance_id
limit $2
