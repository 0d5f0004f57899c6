-- What comes in: orders have one name each, however their shop is spelt.
--
-- former_key  instances whose key was spelt otherwise when they were started: the key as it is
--             built now, and the key that the instance keeps for ever; filled here, once
--
-- Reads the table of instances once, and adds a table: nothing waits. Orders that a release before
-- this one accepts under another spelling while it still runs are found under that spelling alone.

create table amends.former_key (
    workflow text not null,
    business_key text not null,
    stored_key text not null,
    primary key (workflow, business_key)
);

-- Of several spellings the oldest instance counts; one that has the key itself comes before all.
insert into amends.former_key (workflow, business_key, stored_key)
select distinct on (now.business_key) i.workflow, now.business_key, i.business_key
from amends.instance i
cross join lateral (
    select lower(rtrim(btrim(split_part(i.business_key, '/', 1)), '.') collate "C")
           || substr(i.business_key, strpos(i.business_key, '/')) as business_key
) now
where i.workflow = 'fulfilment'
  and strpos(i.business_key, '/') > 1
  and now.business_key <> i.business_key
  and not exists (
      select from amends.instance other
      where other.workflow = i.workflow and other.business_key = now.business_key)
order by now.business_key, i.instance_id;
