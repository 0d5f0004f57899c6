-- How many slots of a dependency a worker could use, so that those it does not need go to others.
--
-- dependency_slot  gains what is wanted
--
-- On a live database: adds a column with a default, which rewrites nothing. Workers of the release
-- before want nothing, and hold what they hold.

alter table amends.dependency_slot add column wanted integer not null default 0
    check (wanted >= 0);
