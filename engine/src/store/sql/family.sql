-- Where everything stands that descends from an instance. What is below a child of which nothing is
-- left is settled.
with recursive descendant as (
    select c.instance_id, c.parent_id, c.workflow, c.business_key, c.status, c.past_pivot, c.held
    from amends.instance c
    where c.parent_id = $1
    union all
    select c.instance_id, c.parent_id, c.workflow, c.business_key, c.status, c.past_pivot, c.held
    from descendant d join amends.instance c on c.parent_id = d.instance_id
    where d.status not in ('compensated', 'cancelled')
)
select d.instance_id as "instance_id!", d.parent_id as "parent_id!", d.workflow as "workflow!",
       d.business_key as "business_key!", d.status as "status!", d.past_pivot as "past_pivot!",
       d.held as "held!",
       exists (
           select from amends.mail m
           where m.instance_id = d.instance_id and m.kind = 'command' and m.name = 'cancel'
       ) or exists (
           select from amends.record r
           where r.instance_id = d.instance_id and r.kind = 'compensation_planned'
       ) as "is_undoing!"
from descendant d
order by d.instance_id
