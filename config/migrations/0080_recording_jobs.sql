-- Jobs on recordings, what they make, and what else is asked of recordings: own access, tags, quality, platforms.

-- What recorders do on demand or by policy, one mechanism for all. queued → running → done | failed | cancelled.
-- A recorder leases the job that it works on; when it dies, the lease runs out and another one begins anew.
create table recording_job (
  tenant_id bigint not null,
  id bigint generated always as identity,
  public_id text not null unique,
  recording_id bigint not null,
  kind text not null check (kind in ('export', 'composition', 'preview')),
  layout text check (layout in ('side_by_side', 'speaker', 'audio')),
  -- Who asked, and why; null: the tenant's policy.
  user_id bigint,
  reason text,
  state text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  failure text,
  attempts int not null default 0,
  progress int not null default 0 check (progress between 0 and 100),
  created_at timestamptz not null,
  -- Not begun before; after a failure that may pass.
  wait_until timestamptz,
  leased_until timestamptz,
  finished_at timestamptz,
  -- Numbers of products being made. What lies under them when the job is not running is left over, and deleted.
  outputs int[] not null default '{}',
  -- Of an export: what goes into the bundle, byte for byte, but for the media; and leave to download it.
  plan jsonb,
  token_sha256 bytea unique,
  token_expires_at timestamptz,
  primary key (tenant_id, id),
  foreign key (tenant_id, recording_id) references recording,
  foreign key (tenant_id, user_id) references app_user,
  check ((kind = 'composition') = (layout is not null))
);
create index recording_job_open on recording_job (id) where state in ('queued', 'running');
create index recording_job_leftover on recording_job (id) where outputs <> '{}';
create index recording_job_recording on recording_job (tenant_id, recording_id, id desc);
select enable_tenant_rls('recording_job');

insert into recording_job (tenant_id, public_id, recording_id, kind, user_id, reason, state, failure, attempts, created_at,
  progress, plan, token_sha256, token_expires_at)
  select tenant_id, 'job' || substr(public_id, 4), recording_id, 'export', user_id, reason,
    case state when 'ready' then 'done' when 'running' then 'queued' else state end, failure, attempts, created_at,
    case state when 'ready' then 100 else 0 end, plan, token_sha256, token_expires_at
  from recording_export order by id;
drop table recording_export;

-- What was made of a recording: stored encrypted in chunks beside it, deleted and erased with it. It can be made again.
create table recording_product (
  tenant_id bigint not null,
  recording_id bigint not null,
  n int not null,
  job_id bigint not null,
  kind text not null check (kind in ('side_by_side', 'speaker', 'audio', 'thumbnail', 'waveform')),
  content_type text not null,
  width int not null default 0,
  height int not null default 0,
  duration_ms bigint not null default 0,
  bytes bigint not null,
  sha256 bytea not null,
  -- [[bytes of plaintext, hash of the stored object], …]
  chunks jsonb not null,
  statement_key text not null,
  made_at timestamptz not null,
  primary key (tenant_id, recording_id, n),
  foreign key (tenant_id, recording_id) references recording,
  foreign key (tenant_id, job_id) references recording_job
);
select enable_tenant_rls('recording_product');
revoke update on recording_product from turnpike_app;

alter table recording
  -- Products begun so far: no number is used twice, whatever dies.
  add column products int not null default 0,
  -- Whether what the policy wants made of it was asked for.
  add column prepared boolean not null default false,
  add column tags text[] not null default '{}',
  -- How good the call was for the worse side, as signaling measured it.
  add column worst_mos real,
  add column median_mos real,
  add column good_ratio real;
update recording set prepared = true where state <> 'recording';
create index recording_unprepared on recording (id) where state = 'ready' and not prepared;
create index recording_tags on recording using gin (tags);
create index audit_log_time on audit_log (tenant_id, at);

-- Beside how long: what is made of every recording, and from when and for how long its people see it themselves.
alter table retention_policy
  add column preview boolean not null default true,
  add column compose text[] not null default '{}' check (compose <@ array['side_by_side', 'speaker', 'audio']),
  add column client_after_h int check (client_after_h between 0 and 8760),
  add column client_for_days int check (client_for_days between 1 and 36500),
  add column provider_after_h int check (provider_after_h between 0 and 8760),
  add column provider_for_days int check (provider_for_days between 1 and 36500),
  add check (num_nulls(client_after_h, client_for_days) in (0, 2)),
  add check (num_nulls(provider_after_h, provider_for_days) in (0, 2));

-- Texts that people agreed to, word for word, by version: ours, and those of host platforms.
create table consent_text (
  tenant_id bigint not null references tenant,
  version text not null check (length(version) between 1 and 40),
  text text not null check (length(text) between 1 and 10000),
  source text not null check (source in ('turnpike', 'platform')),
  since timestamptz not null,
  primary key (tenant_id, version)
);
select enable_tenant_rls('consent_text');
revoke update on consent_text from turnpike_app;

-- Host platforms that may attest consent. Their secrets are derived from the installation's, and stored nowhere.
create table platform_key (
  tenant_id bigint not null references tenant,
  id bigint generated always as identity,
  public_id text not null unique,
  name text not null check (length(name) between 1 and 100),
  created_at timestamptz not null,
  revoked_at timestamptz,
  primary key (tenant_id, id)
);
select enable_tenant_rls('platform_key');

-- Attestations that were taken, so that a repeated one is answered and not taken twice.
create table consent_attestation (
  tenant_id bigint not null,
  key_id bigint not null,
  request_key text not null check (length(request_key) between 1 and 100),
  body_sha256 bytea not null,
  answer jsonb not null,
  at timestamptz not null,
  primary key (tenant_id, key_id, request_key),
  foreign key (tenant_id, key_id) references platform_key
);
select enable_tenant_rls('consent_attestation');
revoke update on consent_attestation from turnpike_app;
