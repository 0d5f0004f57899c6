-- An instance changes on the page it is on: half of each page is left to the versions to come.
--
-- While it lives, an instance changes at least twice. In a crowd pages fill up between the first
-- change and the vacuum, and a version that goes to another page is entered into every index again.
--
-- Changes a setting that counts for new rows: nothing waits. A release before this one is not
-- affected.

alter table amends.instance set (fillfactor = 50);
