-- When each participant's page was connected to a session's room, and why it was not any more. Append-only; what moved a
-- room is in session_change. Times are Unix milliseconds on the clock of the worker that says so.
create table connection_change (
  tenant_id bigint not null,
  session_id bigint not null,
  user_id bigint not null,
  epoch int not null,
  at_ms bigint not null,
  state text not null check (state in ('connecting', 'connected', 'reconnecting', 'closed')),
  reason text not null default '',   -- of reconnecting: 'timeout', 'failed', 'replaced'
  connect_ms int,                    -- of connected: from the page's offer on; null: it had only been silent
  worker_id text not null,
  primary key (tenant_id, session_id, at_ms, user_id, epoch, state),
  foreign key (tenant_id, session_id) references session (tenant_id, id),
  foreign key (tenant_id, user_id) references app_user (tenant_id, id)
);
select enable_tenant_rls('connection_change');
revoke update on connection_change from turnpike_app;
