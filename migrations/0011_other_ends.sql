-- Instances that ended in another way than completed are found by how they ended.
--
-- instance_other_ends  newest first is this index backwards, as with instance_attention
--
-- Builds an index on instance; on a large table build it concurrently beforehand, under the same
-- name.

create index if not exists instance_other_ends on amends.instance (status, instance_id)
    where status in ('compensated', 'cancelled', 'terminated');
