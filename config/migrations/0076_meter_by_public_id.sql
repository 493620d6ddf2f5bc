-- concurrently
-- Sessions are named by their public ids: gifts in a call, receipts, refunds and finance's pages look meters up by them.
-- (No update of a meter changes it, so postings go on being updates in place.)
drop index concurrently if exists session_meter_public;
create index concurrently session_meter_public on session_meter (session_public_id);
