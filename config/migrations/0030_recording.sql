-- Consent, the catalogue of recordings, and the audit log.

-- What somebody answered to a consent text, before anything of a session was recorded. The newest answer counts.
create table consent (
  tenant_id bigint not null references tenant,
  id bigint generated always as identity,
  session_id bigint not null,
  user_id bigint not null,
  text_version text not null check (length(text_version) between 1 and 40),
  accepted boolean not null,
  at timestamptz not null,
  primary key (tenant_id, id),
  foreign key (tenant_id, user_id) references app_user
);
create index consent_session on consent (tenant_id, session_id, user_id, id desc);
select enable_tenant_rls('consent');
revoke update on consent from turnpike_app;

create table recording (
  tenant_id bigint not null references tenant,
  id bigint generated always as identity,
  public_id text not null unique,
  session_id bigint not null,
  session_public_id text not null,
  kind text not null check (kind in ('audio', 'video')),
  format_version int not null,
  key_id text not null,
  wrapped_key bytea not null,
  state text not null default 'recording' check (state in ('recording', 'finishing', 'ready', 'failed')),
  failure text,
  created_at timestamptz not null default now(),
  -- Unix milliseconds: when the first media was taken, how long until the last.
  started_at_ms bigint not null,
  ended_at_ms bigint,
  duration_ms bigint,
  bytes bigint not null default 0,
  primary key (tenant_id, id),
  unique (tenant_id, session_id)
);
create index recording_newest on recording (tenant_id, id desc);
select enable_tenant_rls('recording');

create table recording_participant (
  tenant_id bigint not null,
  recording_id bigint not null,
  user_id bigint not null,
  public_id text not null,
  name text not null,
  role text not null,
  primary key (tenant_id, recording_id, user_id),
  foreign key (tenant_id, recording_id) references recording
);
create index recording_participant_name on recording_participant (tenant_id, lower(name));
select enable_tenant_rls('recording_participant');
revoke update on recording_participant from turnpike_app;

-- One part per room epoch. chain: hash over all its segments so far, in the order in which they were stored.
create table recording_part (
  tenant_id bigint not null,
  recording_id bigint not null,
  epoch bigint not null,
  worker_id text not null,
  state text not null default 'recording' check (state in ('recording', 'ready', 'failed')),
  failure text,
  chain bytea not null,
  entries int not null default 0,
  manifests int not null default 0,
  manifest_key text,
  manifest_sha256 bytea,
  primary key (tenant_id, recording_id, epoch),
  foreign key (tenant_id, recording_id) references recording
);
select enable_tenant_rls('recording_part');

-- One playable file. run: its place among the files of the part, in the order in which the recorder begins them.
create table recording_stream (
  tenant_id bigint not null,
  recording_id bigint not null,
  n int not null,
  epoch bigint not null,
  run int not null,
  user_id bigint not null,
  source text not null check (source in ('microphone', 'camera', 'screen')),
  content_type text not null,
  video_codec text,
  width int not null,
  height int not null,
  audio boolean not null,
  start_ms bigint not null,
  end_ms bigint not null,
  ended boolean not null default false,
  -- Muxing again gave other bytes: these stay as evidence, another stream took the run over.
  superseded boolean not null default false,
  header_bytes int not null default 0,
  video_frames bigint not null default 0,
  audio_ms bigint not null default 0,
  -- The file that is played: a stored front, then the clusters of the segments.
  front_key text,
  front_bytes int,
  front_object_sha256 bytea,
  file_bytes bigint,
  file_sha256 bytea,
  primary key (tenant_id, recording_id, n),
  foreign key (tenant_id, recording_id, epoch) references recording_part
);
create unique index recording_stream_run on recording_stream (tenant_id, recording_id, epoch, run) where not superseded;
select enable_tenant_rls('recording_stream');

create table recording_segment (
  tenant_id bigint not null,
  recording_id bigint not null,
  stream int not null,
  segment int not null,
  epoch bigint not null,
  entry int not null,
  object_key text not null,
  object_bytes bigint not null,
  object_sha256 bytea not null,
  plain_bytes bigint not null,
  plain_sha256 bytea not null,
  start_ms bigint not null,
  end_ms bigint not null,
  entry_sha256 bytea not null,
  chain bytea not null,
  primary key (tenant_id, recording_id, stream, segment),
  unique (tenant_id, recording_id, epoch, entry),
  foreign key (tenant_id, recording_id, stream) references recording_stream (tenant_id, recording_id, n)
);
select enable_tenant_rls('recording_segment');
revoke update on recording_segment from turnpike_app;

-- Leave to play one recording for a while. The token itself is not kept.
create table recording_grant (
  tenant_id bigint not null,
  id bigint generated always as identity,
  token_sha256 bytea not null unique,
  recording_id bigint not null,
  user_id bigint not null,
  expires_at timestamptz not null,
  opened text[] not null default '{}',
  primary key (tenant_id, id),
  foreign key (tenant_id, recording_id) references recording,
  foreign key (tenant_id, user_id) references app_user
);
select enable_tenant_rls('recording_grant');

-- The audit log: append-only, each entry bound to the one before it by its hash. The database itself numbers and
-- chains the entries, so the application cannot write one that does not fit.
create table audit_log (
  tenant_id bigint not null references tenant,
  n bigint not null,
  at timestamptz not null,
  user_id bigint,
  actor text not null,
  action text not null,
  subject text not null,
  reason text,
  details jsonb not null default '{}',
  prev_hash bytea not null,
  hash bytea not null,
  primary key (tenant_id, n)
);
create index audit_log_subject on audit_log (tenant_id, subject, n desc);
select enable_tenant_rls('audit_log');
revoke update on audit_log from turnpike_app;

create function audit_hash(entry audit_log) returns bytea
  language sql stable
  return sha256(entry.prev_hash || convert_to(jsonb_build_array(
    entry.tenant_id, entry.n, extract(epoch from entry.at), entry.user_id, entry.actor, entry.action, entry.subject,
    entry.reason, entry.details)::text, 'UTF8'));

create function audit_chain() returns trigger
  language plpgsql as $$
declare
  last audit_log;
begin
  perform pg_advisory_xact_lock(hashtext('audit_log'), new.tenant_id::int);
  select * into last from audit_log where tenant_id = new.tenant_id order by n desc limit 1;
  new.n := coalesce(last.n, 0) + 1;
  new.at := clock_timestamp();
  new.prev_hash := coalesce(last.hash, sha256('turnpike audit log 1'));
  new.hash := audit_hash(new);
  return new;
end $$;
create trigger audit_chain before insert on audit_log for each row execute function audit_chain();

create function audit_is_append_only() returns trigger
  language plpgsql as $$
begin
  raise exception 'the audit log is append-only';
end $$;
create trigger audit_is_append_only before update or delete on audit_log
  for each row execute function audit_is_append_only();
create trigger audit_is_not_emptied before truncate on audit_log
  for each statement execute function audit_is_append_only();
