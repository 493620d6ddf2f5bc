-- concurrently
-- A provider's earnings of the last weeks, without reading the sessions of all years. It stands for the index on the
-- provider alone. (No update of a meter changes any of it.)
drop index concurrently if exists session_meter_earned;
create index concurrently session_meter_earned on session_meter (tenant_id, provider_account_id, opened_at);
drop index concurrently if exists session_meter_provider;
