-- How often the holder of an instance has written its row.
--
-- instance  gains a revision: a change of the row is made once, by who holds the instance under the
--           claim that the change names, and only upon the revision that it was made for
--
-- Adds a column with a constant default: nothing waits. A release before this one writes rows
-- without counting, which does no harm: the count is read when an instance is claimed.

alter table amends.instance add column revision integer not null default 0;
