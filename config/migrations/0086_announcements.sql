-- Announcements that a call is recorded, and who may take their own recordings away.

alter table retention_policy
  -- Whether those in the call hear that it is recorded, and the tenant's own spoken notice; null: a sound and our text.
  add column announce boolean not null default true,
  add column announce_url text check (announce_url ~ '^https://' and length(announce_url) <= 500),
  -- Whether people may save files made of their own recordings, where they may play them.
  add column client_download boolean not null default false,
  add column provider_download boolean not null default false;

-- What the page of somebody in the call played or showed, as the page says. Goes into the story and the signed root.
create table recording_announcement (
  tenant_id bigint not null references tenant,
  session_id bigint not null,
  user_id bigint not null,
  key text not null check (length(key) between 8 and 64),
  version text not null check (length(version) between 1 and 60),
  how text not null check (how in ('clip', 'tone', 'shown')),
  at timestamptz not null,
  primary key (tenant_id, session_id, user_id, key),
  foreign key (tenant_id, user_id) references app_user
);
select enable_tenant_rls('recording_announcement');
revoke update on recording_announcement from turnpike_app;
