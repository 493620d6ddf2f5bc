-- Consent, the catalogue of recordings, and the audit log.

-- What somebody answered to a consent text, before anything of a session was recorded. The newest answer counts.
create table consent (
  tenant_id bigint not null references tenant,
  id bigint generated always as identity,
  session_id bigint not null,
  user_id bigint not null,
  text_version text not null check (length(text_version) between 1 and 40),
  accepted boolean not null,
  -- Who says so: the person, or the host platform that asked them, which then names what it has in hand.
  given_by text not null default 'person' check (given_by in ('person', 'platform')),
  evidence text,
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
  -- Which master key wraps the data key. The wrapped key itself lies in a store of its own: destroyed there, it is gone.
  key_id text not null,
  -- ready: everything is stored, verified and signed. expired: its time was over. erased: its key was destroyed.
  state text not null default 'recording'
    check (state in ('recording', 'finishing', 'ready', 'failed', 'expired', 'erased')),
  failure text,
  created_at timestamptz not null default now(),
  -- Unix milliseconds: when the first media was taken, how long until the last.
  started_at_ms bigint not null,
  ended_at_ms bigint,
  duration_ms bigint,
  bytes bigint not null default 0,
  -- Kept until then, as the policy was when it began; a legal hold keeps it longer.
  retain_until_ms bigint not null,
  -- What was said and what happened, as control tells it at the session's end; then sealed and stored.
  story jsonb,
  story_key text,
  -- The signed root over all parts; roots counts those made, as a part that turns up late asks for another one.
  root_key text,
  root_sha256 bytea,
  roots int not null default 0,
  primary key (tenant_id, id),
  unique (tenant_id, session_id)
);
create index recording_newest on recording (tenant_id, id desc);
create index recording_unsigned on recording (id) where root_key is null and ended_at_ms is not null;
create index recording_kept on recording (retain_until_ms) where state in ('ready', 'failed', 'erased');
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

-- For how long the recordings of a tenant are kept, by kind. What is not said here is kept as the program says.
create table retention_policy (
  tenant_id bigint not null references tenant,
  kind text not null check (kind in ('audio', 'video')),
  keep_days int not null check (keep_days between 1 and 36500),
  primary key (tenant_id, kind)
);
select enable_tenant_rls('retention_policy');

-- What a user may do with recordings, where that is not what their role may do.
create table recording_duty (
  tenant_id bigint not null references tenant,
  user_id bigint not null,
  duties text[] not null check (duties <@ array['viewer', 'exporter', 'hold_manager', 'key_admin']),
  primary key (tenant_id, user_id),
  foreign key (tenant_id, user_id) references app_user
);
select enable_tenant_rls('recording_duty');

-- While one of these stands, nothing of the recording is deleted, whatever the policy says. Never deleted itself.
create table legal_hold (
  tenant_id bigint not null,
  id bigint generated always as identity,
  public_id text not null unique,
  recording_id bigint not null,
  reason text not null,
  placed_by bigint not null,
  placed_at timestamptz not null,
  released_by bigint,
  released_at timestamptz,
  release_reason text,
  primary key (tenant_id, id),
  foreign key (tenant_id, recording_id) references recording,
  foreign key (tenant_id, placed_by) references app_user,
  foreign key (tenant_id, released_by) references app_user,
  check (num_nulls(released_by, released_at, release_reason) in (0, 3))
);
create index legal_hold_standing on legal_hold (tenant_id, recording_id) where released_at is null;
select enable_tenant_rls('legal_hold');
revoke update on legal_hold from turnpike_app;
grant update (released_by, released_at, release_reason) on legal_hold to turnpike_app;

-- Bundles for people outside. plan: what goes into the bundle, byte for byte, but for the media.
create table recording_export (
  tenant_id bigint not null,
  id bigint generated always as identity,
  public_id text not null unique,
  recording_id bigint not null,
  user_id bigint not null,
  reason text not null,
  state text not null default 'queued' check (state in ('queued', 'running', 'ready', 'failed', 'cancelled')),
  failure text,
  attempts int not null default 0,
  done_bytes bigint not null default 0,
  total_bytes bigint not null default 0,
  plan jsonb,
  created_at timestamptz not null,
  leased_until timestamptz,
  token_sha256 bytea unique,
  token_expires_at timestamptz,
  primary key (tenant_id, id),
  foreign key (tenant_id, recording_id) references recording,
  foreign key (tenant_id, user_id) references app_user
);
create index recording_export_open on recording_export (id) where state in ('queued', 'running');
select enable_tenant_rls('recording_export');

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

-- What is hashed of an entry. A verifier gets this text, and of others' entries its hash alone.
create function audit_text(entry audit_log) returns text
  language sql stable
  return jsonb_build_array(
    entry.tenant_id, entry.n, extract(epoch from entry.at), entry.user_id, entry.actor, entry.action, entry.subject,
    entry.reason, entry.details)::text;

create function audit_hash(entry audit_log) returns bytea
  language sql stable
  return sha256(entry.prev_hash || sha256(convert_to(audit_text(entry), 'UTF8')));

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

-- Heads of the audit log that were put into the object store, signed: an end cut off, or a log written anew, shows.
create table audit_anchor (
  tenant_id bigint not null references tenant,
  day date not null,
  n bigint not null,
  hash bytea not null,
  object_key text not null,
  primary key (tenant_id, day)
);
select enable_tenant_rls('audit_anchor');
revoke update on audit_anchor from turnpike_app;

-- A recording may be paused while something is said that must not be kept, such as the number of a card.
alter table session drop constraint session_recording_check;
alter table session add constraint session_recording_check
  check (recording in ('off', 'waiting_for_consent', 'recording', 'paused', 'stopped', 'failed'));
