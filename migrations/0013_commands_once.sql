-- Commands that can be sent again.
--
-- command  gains the id that the client gave its request, and a digest of everything that it asked
--          for: a request that comes again gets the answer of the first one, and does nothing
--
-- Adds columns without a default: no table is rewritten. Builds an index on command; on a large
-- table build it concurrently beforehand, under the same name. A release before this one gives
-- commands without an id.

alter table amends.command add column request_id text;
alter table amends.command add column request_digest bytea;
create unique index if not exists command_request on amends.command (request_id)
    where request_id is not null;
