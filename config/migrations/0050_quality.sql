-- How good each session was, second by second. One row per session, participant and minute; ``samples`` packs its 60
-- seconds, every track both ways (signaling/quality_series.py says how). The summary is written when a session is over.
create table session_quality (
  tenant_id bigint not null,
  session_id bigint not null,
  user_id bigint not null,
  minute bigint not null,                        -- minutes since the Unix epoch, on the worker's wall clock
  samples bytea not null check (length(samples) <= 4096),
  primary key (tenant_id, session_id, user_id, minute),
  foreign key (tenant_id, session_id) references session (tenant_id, id),
  foreign key (tenant_id, user_id) references app_user (tenant_id, id)
);
select enable_tenant_rls('session_quality');

create table session_quality_summary (
  tenant_id bigint not null,
  session_id bigint not null,
  user_id bigint not null,
  seconds int not null check (seconds > 0),      -- measured, those without a connection included
  worst_mos real not null,                       -- 1 to 4.5, the mean of the worst five seconds on end
  median_mos real not null,
  good_ratio real not null check (good_ratio between 0 and 1),  -- share of the seconds with a score of 4 or 5
  frozen_ms bigint not null check (frozen_ms >= 0),
  primary key (tenant_id, session_id, user_id),
  foreign key (tenant_id, session_id) references session (tenant_id, id)
);
select enable_tenant_rls('session_quality_summary');
