-- Locks everything that descends from an instance whose row is locked, in the order of ids: a
-- child's id comes after its parent's. What is below a child of which nothing is left is settled.
select i.instance_id
from amends.instance i
where i.instance_id in (
    with recursive descendant as (
        select c.instance_id, c.status from amends.instance c where c.parent_id = $1
        union all
        select c.instance_id, c.status
        from descendant d join amends.instance c on c.parent_id = d.instance_id
        where d.status not in ('compensated', 'cancelled')
    )
    select instance_id from descendant
)
order by i.instance_id
for update of i
