-- What workers themselves wrote down of live time: one row per session, room epoch and minute, and one at the end. Shipped
-- from each worker's own journal, past the bus and the meter, so that reconciliation has something to check them against.
create table media_evidence (
  tenant_id bigint not null references tenant,
  session_id bigint not null,
  epoch int not null,
  minute bigint not null,                    -- minutes since the Unix epoch, on the worker's wall clock
  seq bigint not null check (seq >= 0),
  live_ms bigint not null check (live_ms >= 0),
  granted_live_ms bigint not null check (granted_live_ms >= 0),
  worker_id text not null,
  final boolean not null,
  at timestamptz not null,
  primary key (tenant_id, session_id, epoch, minute)
);
select enable_tenant_rls('media_evidence');
