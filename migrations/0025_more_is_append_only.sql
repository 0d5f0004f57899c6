-- What is never changed is kept from being changed everywhere.
--
-- ledger, attribute   gain the triggers that records have
--
-- Adds triggers: each takes a short lock. No release changes or deletes such rows.

create trigger ledger_is_append_only before update or delete on amends.ledger
    for each row execute function amends.refuse_change();
create trigger ledger_is_never_truncated before truncate on amends.ledger
    for each statement execute function amends.refuse_change();
create trigger attribute_is_append_only before update or delete on amends.attribute
    for each row execute function amends.refuse_change();
create trigger attribute_is_never_truncated before truncate on amends.attribute
    for each statement execute function amends.refuse_change();
