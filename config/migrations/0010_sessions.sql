-- Sessions, the history of their changes, chat, and providers' availability switch. Times are Unix milliseconds.

create table provider_state (
  tenant_id bigint not null,
  user_id bigint not null,
  available boolean not null,
  changed_at_ms bigint not null,
  primary key (tenant_id, user_id),
  foreign key (tenant_id, user_id) references app_user (tenant_id, id)
);
select enable_tenant_rls('provider_state');

create table session (
  id bigint generated always as identity,
  tenant_id bigint not null references tenant,
  public_id text not null unique,
  client_id bigint not null,
  provider_id bigint not null,
  kind text not null check (kind in ('chat', 'audio', 'video')),
  state text not null check (state in ('requested', 'ringing', 'accepted', 'connecting', 'active', 'interrupted',
                                       'ended', 'declined', 'missed', 'cancelled', 'expired', 'failed')),
  end_reason text check (end_reason in ('client_left', 'provider_left', 'balance_exhausted', 'dropped', 'never_connected',
                                        'provider_declined', 'no_answer', 'client_cancelled', 'server_error')),
  minor_per_minute bigint not null check (minor_per_minute >= 0),  -- the rate shown at request: it applies to the end
  currency char(3) not null,
  request_key text not null,
  client_consented boolean not null,
  provider_consented boolean,
  recording text not null default 'off'
    check (recording in ('off', 'waiting_for_consent', 'recording', 'stopped', 'failed')),
  recording_public_id text,
  worker_id text,
  room_epoch int not null default 0,
  requested_at_ms bigint not null,
  deadline_at_ms bigint,  -- when the present state ends by itself: swept, so that no timer in memory is needed
  accepted_at_ms bigint,
  started_at_ms bigint,
  ended_at_ms bigint,
  settled_at_ms bigint,   -- an accepted session that is over is settled once; until then the sweep works on it
  revision int not null default 1,
  primary key (tenant_id, id),
  unique (tenant_id, client_id, request_key),
  check (client_id <> provider_id),
  foreign key (tenant_id, client_id) references app_user (tenant_id, id),
  foreign key (tenant_id, provider_id) references app_user (tenant_id, id)
);
select enable_tenant_rls('session');

-- A provider talks to one client at a time; the index decides between two requests of the same moment.
create unique index session_one_per_provider on session (tenant_id, provider_id)
  where state in ('requested', 'ringing', 'accepted', 'connecting', 'active', 'interrupted');
create index session_of_client on session (tenant_id, client_id, id desc);
create index session_of_provider on session (tenant_id, provider_id, id desc);
-- What the sweep of a shard looks at: live sessions, and those over but not settled.
create index session_to_sweep on session ((id % 64))
  where state in ('requested', 'ringing', 'accepted', 'connecting', 'active', 'interrupted')
     or (accepted_at_ms is not null and settled_at_ms is null);

create table session_change (
  tenant_id bigint not null,
  session_id bigint not null,
  revision int not null,
  at_ms bigint not null,
  from_state text,
  to_state text not null,
  what text not null,          -- the trigger, e.g. 'accept', or what else changed, e.g. 'settled'
  actor_id bigint,             -- the user who did it; null: the server
  why text not null default '',
  primary key (tenant_id, session_id, revision),
  foreign key (tenant_id, session_id) references session (tenant_id, id)
);
select enable_tenant_rls('session_change');
revoke update on session_change from turnpike_app;

create table chat_message (
  id bigint generated always as identity,
  tenant_id bigint not null,
  public_id text not null unique,
  session_id bigint not null,
  sender_id bigint not null,
  client_message_id text not null,
  body text not null check (length(body) between 1 and 4000),
  sent_at_ms bigint not null,
  primary key (tenant_id, id),
  unique (tenant_id, session_id, sender_id, client_message_id),
  foreign key (tenant_id, session_id) references session (tenant_id, id),
  foreign key (tenant_id, sender_id) references app_user (tenant_id, id)
);
select enable_tenant_rls('chat_message');
revoke update on chat_message from turnpike_app;
create index chat_message_of_session on chat_message (tenant_id, session_id, id);
