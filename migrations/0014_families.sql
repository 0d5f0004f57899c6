-- Finding the children of an instance.
--
-- instance  gains an index by parent: a cancel looks at everything that an instance has started
--
-- Builds an index on instance; on a large table build it concurrently beforehand, under the same
-- name.

create index if not exists instance_parent on amends.instance (parent_id)
    where parent_id is not null;
